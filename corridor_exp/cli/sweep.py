"""`corridor-sweep`: many runs, frozen before the first one starts."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import signal
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Literal

from corridor_exp.cli.arguments import Parser
from corridor_exp.cli.estimate import report
from corridor_exp.cli.table import beside_differences, table
from corridor_exp.config.settings import Settings
from corridor_exp.errors import ExitCode, UsageError
from corridor_exp.launcher import rank_size_and_local
from corridor_exp.runs.layout import ENDED, LOG_FILE, SLURM_JOBS_FILE, Status
from corridor_exp.runs.places import refuse_to_write
from corridor_exp.streams import steady_streams
from corridor_exp.sweeps.frozen import Sweep, only_one, owner, thaw
from corridor_exp.sweeps.status import RunState, state_of

if TYPE_CHECKING:
    from corridor_exp.sweeps.request import Request

log = logging.getLogger(__name__)
RETRIED = (Status.FAILED, Status.LOST)
UNSOUND = (*RETRIED, Status.DIVERGED)
Outcome = Literal["ended", "stopped", "submitted", "queued"]

HELP = """\
Runs a union of grids. Every run is composed, checked and frozen into its own folder before the first one starts. Then
all unfinished runs run. The same command continues a stopped sweep; later edits of conf/ do not change its runs.

  corridor-sweep [common override]... + [override of a grid]... + [override of a grid]...
  corridor-sweep figure=NAME [scale=NAME] [override for all]...

Examples
  corridor-sweep dataset=digits model=mlp seed=0,1,2 + optim=clr + optim=sgd optim.lr=0.01,0.1,1
                                          CLR, which needs no tuning, and SGD at three learning rates: 12 runs
  corridor-sweep dataset=digits model=mlp optim=sgd optim.lr=0.01,0.1,1           one grid needs no +
  corridor-sweep figure=example scale=smoke processes=2
  corridor-sweep figure=example executor=slurm slurm.partition=gpu slurm.time=240 slurm.gpus=1 slurm.sbatch.account=me
  corridor-sweep out_dir=DIR              continues the sweep in DIR; flags too: out_dir=DIR --status

Keys of the sweep (all others are those of corridor-train, where a value may be a list: seed=0,1,2)
  figure scale                            runs of conf/figure/NAME.yaml, at a scale: full, mini, smoke or your own
  out_dir=DIR                             its folder; default: outputs/<name>/sweep-<fingerprint of the command>/. If
                                          the command has more runs than the folder, the new ones are added
  executor=local processes=N              N runs at a time, which share the cores (engine.threads, frozen with a run)
  executor=slurm                          submits one array job and ends; needs the extra [slurm]
  slurm.partition slurm.time (minutes) slurm.cpus slurm.gpus slurm.mem (GB) slurm.parallel (tasks at a time)
  slurm.grace                             seconds before the time limit at which a run saves and queues again
  slurm.requeues                          how many time limits a run may hit
  slurm.sbatch.OPTION=VALUE               any other option of sbatch
  allow_targets=[PREFIX]                  as in corridor-train; repeat it when a sweep continues, as no file stores it
"""
EPILOG = """\
The folder holds sweep.json (runs, command, commit, time) and one run directory for each run, 0, 1, …, with log.txt.
Exit codes: 0 done or submitted, 1 a run failed or diverged, 2 bad usage, 75 stopped by a signal after saving.
"""


@steady_streams()
def main(argv: list[str] | None = None) -> None:
    """The command. Exits with the codes of the contract."""
    parser = Parser(
        prog="corridor-sweep",
        usage="%(prog)s [KEY=VALUE]... [+ [KEY=VALUE]...]... [--status|--cancel|--retry-failed|--estimate] "
        "[--fail-fast] [--config-dir DIR]",
        description=HELP,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="a table of the runs: state, step, loss, time to go")
    what.add_argument("--cancel", action="store_true", help="stop the sweep; its runs save first and can continue")
    what.add_argument(
        "--estimate", action="store_true", help="print what the runs would take, from a few steps of each"
    )
    what.add_argument("--shell-completion", "-sc", action="store_true", help="as of corridor-train, for both commands")
    what.add_argument("--retry-failed", action="store_true", help="run only runs that failed or were lost")
    parser.add_argument("--fail-fast", action="store_true", help="once a run has failed, begin no other; the rest save")
    parser.add_argument(
        "--config-dir", metavar="DIR", help="a folder with options of your own, with the layout of conf/"
    )
    parser.add_argument("arguments", nargs="*", metavar="KEY=VALUE", help=argparse.SUPPRESS)
    parser.set_defaults(flags=parser.flags)
    parser.carry_out(_main, argv)


def _main(args: argparse.Namespace) -> int:
    from corridor_exp.sweeps.request import Request  # Hydra, only now

    if args.shell_completion:
        from corridor_exp.config.completion import Completion

        Completion(args.flags, of_sweep=True).carry_out(args.arguments)
        return 0
    request = Request(args.arguments, args.config_dir)
    if args.estimate:
        estimate(request)
    elif not (args.status or args.cancel):
        return carry_out(request, args.retry_failed, args.fail_fast)
    else:
        sweep = request.find()
        if not sweep:
            raise UsageError(f"there is no sweep in {request.directory}")
        if args.cancel:
            cancel(sweep)
        else:
            print(status_table(sweep.folders, states_of(sweep)))
    return 0


def carry_out(request: Request, retry_failed: bool = False, fail_fast: bool = False) -> int:
    """Freeze what was asked for, unless that was done before, and run it. Returns the exit code."""
    if rank_size_and_local()[1] > 1:
        raise UsageError("several ranks are one run: leave out -m, or start the sweep without torchrun or srun")
    if fail_fast and request.settings.executor == "slurm":
        raise UsageError("--fail-fast is for executor=local: Slurm's tasks do not wait for each other")
    refuse_to_write(request.directory)
    request.refuse_mistakes()  # before anything is written
    with only_one(request.directory):
        return run(request.frozen(), request.settings, retry_failed, fail_fast)


def estimate(request: Request) -> None:
    sweep = request.find()
    print(report([thaw(folder) for folder in sweep.folders] if sweep else request.configs, request.settings.processes))


def run(sweep: Sweep, settings: Settings, retry_failed: bool, fail_fast: bool = False) -> int:
    """Run what is not finished, or only what has failed, and tell how all runs ended. Returns the exit code."""
    how = start(sweep, settings, retry_failed, fail_fast)
    if how == "submitted":
        return 0
    states = states_of(sweep)
    print(f"{table(sweep.folders)}\n\n{_counts(states)}")
    bad = [(folder, seen) for folder, seen in zip(sweep.folders, states, strict=True) if seen.state in UNSOUND]
    if bad:
        print(f"\n{len(bad)} of {len(states)} runs failed, diverged or were lost:")
        rows = [[seen.state, seen.remark, str(folder / LOG_FILE)] for folder, seen in bad]
        print(beside_differences([folder for folder, _ in bad], ["state", "why", "log"], rows))
    failed = fail_fast and any(seen.state == Status.FAILED for seen in states)
    if how == "stopped" or (not failed and any(seen.state == Status.PREEMPTED for seen in states)):
        log.info("stopped; the same command goes on from here")
        return ExitCode.STOPPED
    return ExitCode.FAILED if bad else ExitCode.DONE


def start(sweep: Sweep, settings: Settings, retry_failed: bool = False, fail_fast: bool = False) -> Outcome:
    """Run what is not finished and not in Slurm's queue; all of it, or only what has failed."""
    states = states_of(sweep)
    todo = [
        folder
        for folder, seen in zip(sweep.folders, states, strict=True)
        if not seen.queued and (seen.state in RETRIED if retry_failed else seen.state not in ENDED)
    ]
    if queued := sum(seen.queued for seen in states):
        log.info("%d runs are in Slurm's queue already", queued)
    if todo and settings.executor == "slurm":
        from corridor_exp.sweeps import slurm

        job = slurm.submit(sweep, todo, settings.slurm)
        log.info("%d runs submitted as Slurm job %s", len(todo), job)
        log.info("look: corridor-sweep out_dir=%s --status; stop: the same with --cancel", sweep.directory)
        return "submitted"
    if todo:
        from corridor_exp.sweeps.local import run_here

        log.info("%d of %d runs to do, in %s", len(todo), len(sweep.runs), sweep.directory)
        if not run_here(todo, settings.processes, fail_fast):
            return "stopped"
    return "queued" if queued else "ended"


def states_of(sweep: Sweep) -> list[RunState]:
    jobs: dict[str, str] = {}
    if (sweep.directory / SLURM_JOBS_FILE).exists() and which("sacct") and find_spec("submitit"):
        from corridor_exp.sweeps import slurm

        jobs = slurm.states(sweep)
    return [state_of(folder, jobs.get(run, "")) for run, folder in zip(sweep.runs, sweep.folders, strict=True)]


def status_table(folders: list[Path], states: list[RunState]) -> str:
    """How far each run is."""
    return f"{beside_differences(folders, list(RunState.COLUMNS), [seen.row for seen in states])}\n\n{_counts(states)}"


def _counts(states: list[RunState]) -> str:
    return ", ".join(f"{number} {state}" for state, number in Counter(seen.state for seen in states).items())


def cancel(sweep: Sweep) -> None:
    """Stop the sweep that runs here, and take its jobs out of Slurm's queue. The runs save first."""
    queued = [run for run, seen in zip(sweep.runs, states_of(sweep), strict=True) if seen.queued]
    if queued:
        from corridor_exp.sweeps import slurm

        slurm.cancel(sweep, queued)
        log.info("%d runs taken out of Slurm's queue", len(queued))
    if process := owner(sweep.directory):
        host, pid = process
        if host != platform.node():
            raise UsageError(f"this sweep runs as process {pid} of {host}: cancel it there")
        os.kill(pid, signal.SIGTERM)
        log.info("process %d told to stop; its runs save first", pid)
    if not queued and not process:
        log.info("nothing of this sweep runs or waits")


if __name__ == "__main__":
    main()
