"""`corridor-sweep`: many runs, frozen before the first one starts."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import NoReturn

from corridor_exp.cli.arguments import STOPPED, Parser
from corridor_exp.cli.estimate import report
from corridor_exp.cli.table import beside_differences, table
from corridor_exp.config import secrets, targets
from corridor_exp.config.schema import (
    CONF_DIR,
    Config,
    available_threads,
    difference,
    fingerprint,
    refuse_place,
)
from corridor_exp.config.settings import Settings
from corridor_exp.errors import UsageError, extra
from corridor_exp.launcher import rank_size_and_local
from corridor_exp.streams import steady_streams
from corridor_exp.sweeps import grids
from corridor_exp.sweeps.frozen import SUBMITTED, Sweep, only_one, owner, thaw
from corridor_exp.sweeps.status import Look, look
from corridor_exp.sweeps.worker import LOG

FINISHED = ("completed", "diverged")
RETRIED = ("failed", "lost")
UNSOUND = (*RETRIED, "diverged")

HELP = """\
Runs a union of grids. Every run is composed, checked and frozen into its own folder before the first one starts; then
whatever is not finished runs. The same command goes on where it was stopped, whatever was edited in conf/ meanwhile.

  corridor-sweep [common override]... + [override of a grid]... + [override of a grid]...
  corridor-sweep figure=NAME [scale=NAME] [override for all]...

Examples
  corridor-sweep dataset=digits model=mlp seed=0,1,2 + optim=clr + optim=sgd optim.lr=0.01,0.1,1
                                          CLR, which has nothing to tune, beside SGD at three learning rates: 12 runs
  corridor-sweep dataset=digits model=mlp optim=sgd optim.lr=0.01,0.1,1           one grid needs no +
  corridor-sweep figure=example scale=smoke processes=2
  corridor-sweep figure=example executor=slurm slurm.partition=gpu slurm.time=240 slurm.gpus=1 slurm.sbatch.account=me
  corridor-sweep out_dir=DIR              goes on with the sweep that lies there; so do the flags: out_dir=DIR --status

Keys of the sweep (all others are those of corridor-train, where a value may be a list: seed=0,1,2)
  figure scale                            runs of conf/figure/NAME.yaml, at the size of conf/scale/NAME.yaml
  out_dir=DIR                             its folder; otherwise outputs/<name>/sweep-<fingerprint of the command>/. A
                                          command whose runs begin with those of the folder adds its other runs
  executor=local processes=N              N runs at a time, which share the cores (engine.threads, frozen with a run)
  executor=slurm                          one array job, submitted and left alone; needs the extra [slurm]
  slurm.partition slurm.time (minutes) slurm.cpus slurm.gpus slurm.mem (GB) slurm.parallel (tasks at a time)
  slurm.grace                             seconds before the time limit at which a run saves and queues again
  slurm.requeues                          how many time limits a run may hit
  slurm.sbatch.OPTION=VALUE               any other option of sbatch
  allow_targets=[PREFIX]                  as of corridor-train: no file keeps it, so say it again when a sweep goes on
"""
EPILOG = """\
The folder holds sweep.json (which runs, command, commit, time) and a folder a run, 0, 1, …, as corridor-train writes
it, with log.txt. Exit codes: 0 done or submitted, 1 a run failed or diverged, 2 bad usage, 75 stopped by a signal after
saving.
"""


@steady_streams()
def main(argv: list[str] | None = None) -> NoReturn:
    """The command. Exits with the codes of the contract."""
    parser = Parser(
        prog="corridor-sweep",
        usage="%(prog)s [KEY=VALUE]... [+ [KEY=VALUE]...]... [--status|--cancel|--retry-failed|--estimate] "
        "[--config-dir DIR]",
        description=HELP,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="a table of the runs: state, step, loss, time to go")
    what.add_argument("--cancel", action="store_true", help="stop the sweep; its runs save first, and can go on")
    what.add_argument("--estimate", action="store_true", help="say what the runs would take, from a few steps of each")
    what.add_argument("--retry-failed", action="store_true", help="run only what has failed or was lost")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with options of your own, laid out as conf/ is")
    parser.add_argument("arguments", nargs="*", metavar="KEY=VALUE", help=argparse.SUPPRESS)
    parser.carry_out(_main, argv)


def _main(args: argparse.Namespace) -> int:
    asked = Asked.of(targets.take(args.arguments), args.config_dir)
    if args.estimate:
        estimate(asked)
    elif not (args.status or args.cancel):
        return carry_out(asked, args.retry_failed)
    else:
        sweep = asked.find()
        if not sweep:
            raise UsageError(f"there is no sweep in {asked.directory}")
        if args.cancel:
            cancel(sweep)
        else:
            print(status_table(sweep.folders, look_at(sweep)))
    return 0


def carry_out(asked: Asked, retry_failed: bool = False) -> int:
    """Freeze what was asked for, unless that was done before, and run it. Returns the exit code."""
    if rank_size_and_local()[1] > 1:
        raise UsageError("several ranks are one run: leave out -m, or start the sweep without torchrun or srun")
    refuse_place(asked.directory)
    asked.refuse_mistakes()  # before anything is written
    with only_one(asked.directory):
        return run(asked.frozen(), asked.settings, retry_failed)


def estimate(asked: Asked) -> None:
    sweep = asked.find()
    print(report([thaw(folder) for folder in sweep.folders] if sweep else asked.configs, asked.settings.processes))


class Asked:
    """The sweep that a command line asks for. Composes nothing before that is needed."""

    def __init__(self, settings: Settings, overrides: list[str], config_dir: str | None) -> None:
        self.settings, self.overrides, self.config_dir = settings, overrides, config_dir
        chosen = {"figure": settings.figure, "scale": settings.scale, "--config-dir": config_dir}
        self.command = [f"{key}={value}" for key, value in chosen.items() if value] + list(
            map(secrets.redact_argument, overrides)
        )
        if not self.command and not settings.out_dir:
            raise UsageError("say what to sweep: overrides, figure=NAME, or out_dir=DIR of a former sweep (see --help)")
        if settings.scale and not settings.figure:
            raise UsageError(f"scale={settings.scale} is the scale of a figure: add figure=NAME")

    @classmethod
    def of(cls, arguments: Sequence[str], config_dir: str | None) -> Asked:
        """Read the arguments of corridor-sweep, or of corridor-train -m."""
        from corridor_exp.config.compose import folder_of_sweep

        read = [folder_of_sweep(text) if text.startswith("out_dir=") else text for text in arguments]
        settings, overrides = Settings.take(read)
        if settings.executor == "slurm":
            _require_slurm()
        return cls(settings, overrides, config_dir)

    @cached_property
    def configs(self) -> list[Config]:
        """Every run, checked; one that lies in two grids, once."""
        from corridor_exp.config.compose import compose_jobs

        if not self.command:
            raise UsageError(f"there is no sweep in {self.directory}, and no override says what to run there")
        settings, folder = self.settings, self.config_dir
        if settings.figure:
            folders = [CONF_DIR, *([Path(folder)] if folder else [])]
            union = grids.figure_grids(folders, settings.figure, settings.scale, self.overrides)
        else:
            union = grids.union(self.overrides)
        budget = available_threads() // settings.processes if settings.executor == "local" else settings.slurm.cpus
        share = f"engine.threads={max(1, budget)}"
        configs = [config for grid in union for config in compose_jobs([share, *grid], True, folder)]
        if any(config.out_dir for config in configs):
            raise UsageError("out_dir is the folder of the whole sweep, and no key of a grid")
        secrets.leave([config.model_dump() for config in configs])
        return list({fingerprint([config.identity()]): config for config in configs}.values())

    @cached_property
    def directory(self) -> Path:
        """out_dir, or a folder named after the command: it does not move when a file of conf/ is edited."""
        if self.settings.out_dir:
            return Path(self.settings.out_dir).expanduser().absolute()
        name = "-".join(filter(None, (self.settings.figure, self.settings.scale)))
        if not name:
            names = {config.name for config in self.configs}
            name = names.pop() if len(names) == 1 else "sweep"
        return Path("outputs").absolute() / name / f"sweep-{fingerprint([{'command': self.command}])}"

    def find(self) -> Sweep | None:
        """The sweep that lies there. Raises `UsageError` if it came from another command."""
        sweep = Sweep.open(self.directory)
        if sweep and not self._is_command_of(sweep):
            raise self._another(sweep, "")
        return sweep

    def refuse_mistakes(self) -> None:
        """Compose what the folder does not hold yet."""
        sweep = Sweep.open(self.directory)
        if not (sweep and self._is_command_of(sweep)):
            self._runs(sweep)

    def frozen(self) -> Sweep:
        """The sweep of the folder, frozen now if it is new; a command whose runs begin with the folder's adds to it."""
        sweep = Sweep.open(self.directory)
        if sweep and self._is_command_of(sweep):
            self.tell_what_was_edited_since(sweep)
            return sweep
        return Sweep.freeze(self.directory, self._runs(sweep), self.command)

    def _is_command_of(self, sweep: Sweep) -> bool:
        return not self.command or sweep.command == self.command

    def _runs(self, sweep: Sweep | None) -> list[Config]:
        """Every run of this command: as it was frozen, where the folder holds it, or else as it is composed now."""
        if not sweep:
            return self.configs
        if len(sweep.runs) > len(self.configs):
            raise self._another(sweep, f": {len(sweep.runs)} runs, here {len(self.configs)}")
        runs = list(self.configs)
        for number, folder in enumerate(sweep.folders):
            frozen = thaw(folder)
            lines = _changes(frozen, runs[number])
            if not lines:
                runs[number] = frozen
            elif not (runs[number].resume.override or look(folder).state == "failed"):
                raise self._another(sweep, f": run {folder.name}: {lines[0]}; resume.override=true goes on with it")
        return runs

    def _another(self, sweep: Sweep, how: str) -> UsageError:
        command = " ".join(sweep.command)
        return UsageError(f"{self.directory} holds another sweep ({command}{how}): choose another out_dir")

    def tell_what_was_edited_since(self, sweep: Sweep) -> None:
        """The frozen runs go on as they are; but who has edited conf/ should not think that it took effect."""
        if not self.command:
            return
        try:
            now = self.configs
        except UsageError as error:
            return tell(f"conf/ was edited since ({error}); going on with the runs as they were frozen")
        frozen = [_frozen(folder) for folder in sweep.folders]
        changes = [f"{len(frozen)} → {len(now)} runs"] if len(now) != len(frozen) else []
        for run, old, new in zip(sweep.runs, frozen, now, strict=False):
            if old:
                changes += [f"run {run}: {line}" for line in _changes(old, new)]
        if changes:
            more = f" and {len(changes) - 1} more" if changes[1:] else ""
            tell(
                f"conf/ was edited since ({changes[0]}{more}); going on with the runs as they were frozen, "
                "for the edited ones choose another out_dir"
            )


def _frozen(folder: Path) -> Config | None:
    """Its configuration, or None where that cannot be read, which the table of the runs tells."""
    try:
        return thaw(folder)
    except UsageError:
        return None


def run(sweep: Sweep, settings: Settings, retry_failed: bool) -> int:
    """Run what is not finished and not in Slurm's queue; all of it, or only what has failed."""
    looks = look_at(sweep)
    todo = [
        folder
        for folder, seen in zip(sweep.folders, looks, strict=True)
        if not seen.queued and (seen.state in RETRIED if retry_failed else seen.state not in FINISHED)
    ]
    stopped = False
    if queued := sum(seen.queued for seen in looks):
        tell(f"{queued} runs are in Slurm's queue already")
    if todo and settings.executor == "slurm":
        from corridor_exp.sweeps import slurm

        job = slurm.submit(sweep, todo, settings.slurm)
        tell(f"{len(todo)} runs submitted as Slurm job {job}")
        tell(f"look: corridor-sweep out_dir={sweep.directory} --status; stop: the same with --cancel")
        return 0
    if todo:
        from corridor_exp.sweeps.local import run_here

        tell(f"{len(todo)} of {len(sweep.runs)} runs to do, in {sweep.directory}")
        stopped = not run_here(todo, settings.processes)
    looks = look_at(sweep)
    print(f"{table(sweep.folders)}\n\n{_counts(looks)}")
    bad = [(folder, seen) for folder, seen in zip(sweep.folders, looks, strict=True) if seen.state in UNSOUND]
    if bad:
        print(f"\n{len(bad)} of {len(looks)} runs failed, diverged or were lost:")
        rows = [[seen.state, seen.remark, str(folder / LOG)] for folder, seen in bad]
        print(beside_differences([folder for folder, _ in bad], ["state", "why", "log"], rows))
    if stopped or any(seen.state == "preempted" for seen in looks):
        tell("stopped; the same command goes on from here")
        return STOPPED
    return 1 if bad else 0


def look_at(sweep: Sweep) -> list[Look]:
    jobs: dict[str, str] = {}
    if (sweep.directory / SUBMITTED).exists() and which("sacct") and find_spec("submitit"):
        from corridor_exp.sweeps import slurm

        jobs = slurm.states(sweep)
    return [look(folder, jobs.get(run, "")) for run, folder in zip(sweep.runs, sweep.folders, strict=True)]


def status_table(folders: list[Path], looks: list[Look]) -> str:
    """How far each run is."""
    return f"{beside_differences(folders, list(Look.COLUMNS), [seen.row for seen in looks])}\n\n{_counts(looks)}"


def _counts(looks: list[Look]) -> str:
    return ", ".join(f"{number} {state}" for state, number in Counter(seen.state for seen in looks).items())


def _changes(old: Config, new: Config) -> list[str]:
    """In what two runs differ, but for their share of the cores, which is that of the sweep's first start."""
    lines = difference(old.identity(), new.identity())
    return [line for line in lines if not line.startswith("engine.threads:")]


def cancel(sweep: Sweep) -> None:
    """Stop the sweep that runs here, and take its jobs out of Slurm's queue. The runs save first."""
    queued = [run for run, seen in zip(sweep.runs, look_at(sweep), strict=True) if seen.queued]
    if queued:
        from corridor_exp.sweeps import slurm

        slurm.cancel(sweep, queued)
        tell(f"{len(queued)} runs taken out of Slurm's queue")
    if process := owner(sweep.directory):
        host, pid = process
        if host != platform.node():
            raise UsageError(f"this sweep runs as process {pid} of {host}: cancel it there")
        os.kill(pid, signal.SIGTERM)
        tell(f"process {pid} told to stop; its runs save first")
    if not queued and not process:
        tell("nothing of this sweep runs or waits")


def tell(message: str) -> None:
    print(f"corridor-sweep: {secrets.clean(message)}", file=sys.stderr, flush=True)


def _require_slurm() -> None:
    if not find_spec("submitit"):
        raise UsageError(f"executor=slurm needs submitit: {extra('slurm')}")
    if not which("sbatch"):
        raise UsageError("executor=slurm: there is no Slurm here (no sbatch in PATH)")


if __name__ == "__main__":
    main()
