"""Runs as the tasks of one Slurm array job, through submitit.

What submitit pickles is the name of a folder and what the command line trusts: configuration and progress lie in the
folder, secrets in the environment that sbatch hands on. At a time limit or on preemption Slurm sends a signal: the run
saves, and the task queues itself again.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import redirect_stderr
from io import StringIO
from itertools import repeat
from pathlib import Path
from typing import Any

import submitit

from corridor_exp.config import targets
from corridor_exp.config.settings import Slurm
from corridor_exp.errors import ExitCode, RunError, UsageError, in_words
from corridor_exp.files import write_json
from corridor_exp.runs.layout import SLURM_JOBS_FILE, Status
from corridor_exp.sweeps.frozen import Sweep
from corridor_exp.sweeps.worker import work

UNREACHABLE = re.compile(r"slurm controller|configuration source|munge|timed out|zero bytes", re.IGNORECASE)


class Task(submitit.helpers.Checkpointable):
    """One run as a task: submitit calls it, and calls it again after each requeue."""

    def __call__(self, folder: str, allow_targets: tuple[str, ...]) -> None:
        status = work(Path(folder), allow_targets)
        job = submitit.JobEnvironment()
        if status == Status.PREEMPTED and _is_wanted(job.job_id):
            # The run has answered the signal by saving. Now submitit's handler may have it: it counts and requeues.
            signal.raise_signal(signal.Signals[f"SIG{job.USR_SIG}"])
        if status != Status.COMPLETED:
            sys.exit(ExitCode.FAILED)


def _is_wanted(job: str) -> bool:
    """Whether Slurm calls this job running: one that somebody has cancelled is not, though the signal looks alike."""
    asked = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip() == "RUNNING"


def submit(sweep: Sweep, folders: list[Path], settings: Slurm) -> str:
    """Submit the runs of `folders` as one array job, and return its id without waiting for it."""
    executor = submitit.SlurmExecutor(_folder(sweep), max_num_timeout=settings.requeues)
    options: dict[str, Any] = {
        "job_name": sweep.directory.name,
        "partition": settings.partition,
        "time": settings.time,
        "cpus_per_task": settings.cpus,
        "gpus_per_node": settings.gpus,
        "mem": None if settings.mem is None else f"{settings.mem}G",
        "array_parallelism": settings.parallel,
        "signal_delay_s": settings.grace,
        "stderr_to_stdout": True,
        "additional_parameters": settings.sbatch,
    }
    executor.update_parameters(**{key: value for key, value in options.items() if value is not None})
    try:
        with redirect_stderr(StringIO()):  # the error has it too
            jobs = executor.map_array(Task(), map(str, folders), repeat(targets.allowed()))
    except submitit.core.utils.FailedJobError as error:
        raise _refusal("sbatch", str(error)) from None
    except OSError as error:
        raise RunError(f"cannot write {in_words(error)}; nothing was submitted") from None
    newest = _jobs(sweep) | {folder.name: job.job_id for folder, job in zip(folders, jobs, strict=True)}
    job = jobs[0].job_id.partition("_")[0]
    try:
        write_json(sweep.directory / SLURM_JOBS_FILE, newest)
    except RunError as error:
        raise RunError(f"Slurm has job {job}, but --status and --cancel do not know of it: {error}") from None
    return job


def states(sweep: Sweep) -> dict[str, str]:
    """What Slurm says of the newest job of each run; nothing of those that it has forgotten."""
    jobs: dict[str, submitit.SlurmJob[None]] = {
        run: submitit.SlurmJob(_folder(sweep), job) for run, job in _jobs(sweep).items()
    }
    said = {run: job.state.upper() for run, job in jobs.items()}
    return {run: state for run, state in said.items() if state != "UNKNOWN"}


def cancel(sweep: Sweep, runs: list[str]) -> None:
    """Take the jobs of these runs out of Slurm's queue. Those that run save first."""
    jobs = _jobs(sweep)
    if doomed := [jobs[run] for run in runs if run in jobs]:
        done = subprocess.run(["scancel", *doomed], capture_output=True, text=True)
        if done.returncode:
            raise _refusal("scancel", done.stderr)


def _refusal(command: str, said: str) -> UsageError:
    """What a command of Slurm's has said in several lines, as one line that names the cure."""
    lines = [re.sub(rf"^{command}: (error: |fatal: )?", "", line).strip() for line in said.splitlines() if line.strip()]
    if UNREACHABLE.search(said):
        return UsageError(
            f"executor=slurm: no Slurm controller answers {command} ({lines[-1]}): ask `sinfo`, set SLURM_CONF, "
            "or leave out executor=slurm, which runs the sweep here"
        )
    return UsageError(
        f"{command}: {'; '.join(lines) or 'no reason given'}: change slurm.KEY=VALUE (see --help), or ask `sinfo`"
    )


def _folder(sweep: Sweep) -> Path:
    return (sweep.directory / SLURM_JOBS_FILE).parent


def _jobs(sweep: Sweep) -> dict[str, str]:
    try:
        jobs = json.loads((sweep.directory / SLURM_JOBS_FILE).read_text())
        return {str(run): str(job) for run, job in jobs.items()}
    except (OSError, ValueError, AttributeError):
        return {}
