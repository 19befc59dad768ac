"""The folders of runs and of sweeps: names of files, statuses, locks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from corridor_exp.errors import ExitCode, UsageError
from corridor_exp.files import SAFE_NAME, regular, write_atomically

CONFIG_FILE: Final = "config.yaml"
RECORDS_FILE: Final = "records.jsonl"
SUMMARY_FILE: Final = "summary.json"
CHECKPOINTS: Final = "checkpoints"  # a folder
LOCK_FILE: Final = ".lock"
LOG_FILE: Final = "log.txt"  # all output of a run of a sweep
STEPS_FILE: Final = ".steps"  # how many steps the whole run takes
WANDB: Final = "wandb"  # the folder of W&B's own files
WANDB_ID_FILE: Final = "wandb_run_id"
UPLOAD_LOG_FILE: Final = "upload.log"  # of the process that uploads to W&B during training

MANIFEST: Final = "sweep.json"
CHANGED_CONFIG_FILE: Final = "config.changed.yaml"  # of a sweep's resume.override=true, until the run has taken it
SWEEP_LOCK_FILE: Final = ".sweep.lock"
SWEEP_OWNER_FILE: Final = ".sweep.owner"  # host and process id of the sweep that holds the lock
SLURM_JOBS_FILE: Final = Path("slurm", "jobs.json")  # the newest Slurm job of each run, beside what submitit writes


class Status(StrEnum):
    """The status of a run. A summary holds one of the first four. Readers use the others if there is no summary."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    PREEMPTED = "preempted"  # a signal stopped it after saving
    FAILED = "failed"

    UNFINISHED = "unfinished"  # there are records
    NOT_STARTED = "not started"
    UNREADABLE = "unreadable"

    RUNNING = "running"  # the last three are states of runs in a table, and in no summary
    WAITING = "waiting"
    LOST = "lost"  # its process ended without a summary

    @property
    def exit_code(self) -> ExitCode:
        return {Status.COMPLETED: ExitCode.DONE, Status.PREEMPTED: ExitCode.STOPPED}.get(self, ExitCode.FAILED)


ENDED: Final = (Status.COMPLETED, Status.DIVERGED)  # there is nothing left to train


def take_change(directory: Path, config: bytes) -> None:
    """Remove the changed configuration of a run that goes on with it now. A newer one stays."""
    changed = directory / CHANGED_CONFIG_FILE
    with suppress(FileNotFoundError):
        if changed.read_bytes() == config:
            changed.unlink()


def write_total_steps(directory: Path, steps: int) -> None:
    """Tell how many steps the whole run takes. Raises as `write_atomically`."""
    write_atomically(directory / STEPS_FILE, b"%d" % steps)


def total_steps(directory: Path) -> int | None:
    """The steps that the whole run takes; None before its training begins."""
    try:
        return int(regular(directory / STEPS_FILE).read_text())
    except (OSError, ValueError):
        return None


def find(directory: Path) -> list[Path]:
    """The run directories in a folder, itself included, `run/2` before `run/10`. Links are not followed."""
    found = []
    for folder, inner, files in os.walk(directory):
        inner[:] = [name for name in inner if name not in (CHECKPOINTS, WANDB) and not name.startswith(".")]
        if not {RECORDS_FILE, CONFIG_FILE, SUMMARY_FILE}.isdisjoint(files):
            found.append(Path(folder))
    return sorted(found, key=lambda path: [int(t) if t.isdecimal() else t for t in re.split(r"(\d+)", str(path))])


def run_folders(sweep: Path, runs: Sequence[Any]) -> list[Path]:
    """The folders of the runs that a manifest names. Raises `UsageError` for a name that could lead out of `sweep`."""
    for name in runs:
        if not isinstance(name, str) or not SAFE_NAME.fullmatch(name):
            raise UsageError(f"the manifest of {sweep} is damaged: {name!r} is no folder of a run")
    return [sweep / name for name in runs]


@contextmanager
def held(lock: Path, refusal: str, patience: float = 0.0) -> Iterator[None]:
    """While this is open no other process holds the lock.

    Raises `UsageError(refusal)` where another process holds it for longer than `patience` seconds.
    """
    try:
        with FileLock(lock, timeout=patience):
            yield
    except Timeout:
        raise UsageError(refusal) from None


def is_held(lock: Path) -> bool:
    """Whether a living process holds the lock. The file also exists after that process has ended."""
    if not lock.exists():
        return False
    try:
        with held(lock, ""):
            return False
    except UsageError:
        return True
    except OSError:  # it is not a file, or belongs to another user
        return False
