"""What a command line of `corridor-sweep` or of `corridor-train -m` asks for: which runs, and in which folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from corridor_exp.config import secrets
from corridor_exp.config.compose import compose_grids, folder_of_sweep
from corridor_exp.config.differences import difference, fingerprint
from corridor_exp.config.options import CONF_DIR
from corridor_exp.config.schema import Config
from corridor_exp.config.settings import Settings
from corridor_exp.config.threads import available_threads
from corridor_exp.errors import UsageError, extra
from corridor_exp.runs.layout import Status
from corridor_exp.sweeps import grids
from corridor_exp.sweeps.frozen import Sweep, thaw
from corridor_exp.sweeps.status import state_of

log = logging.getLogger(__name__)


class Request:
    """The sweep that a command line asks for. Nothing is composed before it is needed.

    `directory` is where it lies, if that is not for the command line to say.
    """

    def __init__(self, arguments: Sequence[str], config_dir: str | None, directory: Path | None = None) -> None:
        self._directory = directory
        read = [folder_of_sweep(text) if text.startswith("out_dir=") else text for text in arguments]
        self.settings, self.overrides = Settings.take(read)
        self.config_dir = config_dir
        if self.settings.executor == "slurm":
            _require_slurm()
        figure, scale = self.settings.figure, self.settings.scale
        chosen = {"figure": figure, "scale": scale, "--config-dir": config_dir}
        self.command = [f"{key}={value}" for key, value in chosen.items() if value]
        self.command += map(secrets.redact_argument, self.overrides)
        if not self.command and not self.settings.out_dir:
            raise UsageError("say what to sweep: overrides, figure=NAME, or out_dir=DIR of a former sweep (see --help)")
        if scale and not figure:
            raise UsageError(f"scale={scale} is the scale of a figure: add figure=NAME")

    @cached_property
    def configs(self) -> list[Config]:
        """Every run, checked; one that lies in two grids, once."""
        if not self.command:
            raise UsageError(f"there is no sweep in {self.directory}, and no override says what to run there")
        settings = self.settings
        budget = available_threads() // settings.processes if settings.executor == "local" else settings.slurm.cpus
        share = f"engine.threads={max(1, budget)}"
        configs = compose_grids([[share, *grid] for grid in self._grids()], self.config_dir)
        if any(config.out_dir for config in configs):
            raise UsageError("out_dir is the folder of the whole sweep, and no key of a grid")
        secrets.leave([config.model_dump() for config in configs])
        return list({fingerprint([config.identity()]): config for config in configs}.values())

    def _grids(self) -> list[list[str]]:
        if not self.settings.figure:
            return grids.union(self.overrides)
        folders = [CONF_DIR, *([Path(self.config_dir)] if self.config_dir else [])]
        return grids.figure_grids(folders, self.settings.figure, self.settings.scale, self.overrides)

    @cached_property
    def directory(self) -> Path:
        """out_dir, or a folder named after the command: it does not move when a file of conf/ is edited."""
        if self._directory:
            return self._directory
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
        """Compose what the folder does not hold yet. Raises `UsageError` for what cannot run there."""
        sweep = Sweep.open(self.directory)
        if not (sweep and self._is_command_of(sweep)):
            self._runs(sweep)

    def frozen(self) -> Sweep:
        """The sweep of the folder, frozen now if it is new; a command whose runs begin with the folder's adds to it."""
        sweep = Sweep.open(self.directory)
        if sweep and self._is_command_of(sweep) and not self._adds_to(sweep):
            self._tell_what_was_edited_since(sweep)
            if self.command and not all(folder.exists() for folder in sweep.folders):
                with suppress(UsageError):  # conf/ was edited, which has been told: they stay lost
                    if len(self.configs) == len(sweep.runs):
                        sweep.freeze_what_is_gone(self.configs)
            return sweep
        return Sweep.freeze(self.directory, self._runs(sweep), self.command)

    def _adds_to(self, sweep: Sweep) -> bool:
        """Whether its command has got further runs, because a figure or an option was edited, and all others stand."""
        try:
            now = self.configs if self.command else []
        except UsageError:
            return False
        pairs = zip(map(_frozen, sweep.folders), now, strict=False)
        return len(now) > len(sweep.runs) and not any(old is None or _changes(old, new) for old, new in pairs)

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
            if not folder.exists():  # it begins anew
                continue
            frozen = thaw(folder, with_changes=False)
            lines = _changes(frozen, runs[number])
            if not lines:
                runs[number] = frozen
            elif not (runs[number].resume.override or state_of(folder).state == Status.FAILED):
                raise self._another(sweep, f": run {folder.name}: {lines[0]}; resume.override=true goes on with it")
        return runs

    def _another(self, sweep: Sweep, how: str) -> UsageError:
        command = " ".join(sweep.command)
        return UsageError(f"{self.directory} holds another sweep ({command}{how}): choose another out_dir")

    def _tell_what_was_edited_since(self, sweep: Sweep) -> None:
        """The frozen runs go on as they are; but who has edited conf/ should not think that it took effect."""
        if not self.command:
            return
        try:
            now = self.configs
        except UsageError as error:
            return log.warning("conf/ was edited since (%s); going on with the runs as they were frozen", error)
        frozen = [_frozen(folder) for folder in sweep.folders]
        changes = [f"{len(frozen)} → {len(now)} runs"] if len(now) != len(frozen) else []
        for run, old, new in zip(sweep.runs, frozen, now, strict=False):
            if old:
                changes += [f"run {run}: {line}" for line in _changes(old, new)]
        if changes:
            more = f" and {len(changes) - 1} more" if changes[1:] else ""
            log.warning(
                "conf/ was edited since (%s%s); going on with the runs as they were frozen, "
                "for the edited ones choose another out_dir",
                *(changes[0], more),
            )


def _frozen(folder: Path) -> Config | None:
    """Its configuration, or None where that cannot be read, which the table of the runs tells."""
    try:
        return thaw(folder)
    except UsageError:
        return None


def _changes(old: Config, new: Config) -> list[str]:
    """In what two runs differ, but for their share of the cores, which is that of the sweep's first start."""
    lines = difference(old.identity(), new.identity())
    return [line for line in lines if not line.startswith("engine.threads:")]


def _require_slurm() -> None:
    if not find_spec("submitit"):
        raise UsageError(f"executor=slurm needs submitit: {extra('slurm')}")
    for command in ("sbatch", "srun"):
        if not which(command):
            raise UsageError(f"executor=slurm: there is no Slurm here (no {command} in PATH)")
