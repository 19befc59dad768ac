"""A sweep on disk: every configuration frozen in a folder of its own before the first run starts.

Later edits of `conf/` do not change the runs. `sweep.json` is written last: a folder without it is not yet a sweep, and
is frozen again.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from corridor_exp.config import secrets
from corridor_exp.config.schema import Config
from corridor_exp.errors import UsageError
from corridor_exp.files import write_atomically, write_json
from corridor_exp.runs import layout, reading
from corridor_exp.runs.layout import SWEEP_LOCK_FILE, SWEEP_OWNER_FILE, held, is_held
from corridor_exp.runs.places import refuse_to_start
from corridor_exp.runs.provenance import git_commit
from corridor_exp.yaml_files import to_yaml

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """The manifest: the runs in `directory`, and the command, the time and the code that made them."""

    directory: Path
    command: list[str]
    runs: list[str]
    time: str
    git_commit: str | None

    @property
    def folders(self) -> list[Path]:
        return layout.run_folders(self.directory, self.runs)

    @classmethod
    def freeze(cls, directory: Path, configs: Sequence[Config], command: list[str]) -> Sweep:
        """Write every configuration into its numbered folder, then the manifest."""
        sweep = cls(
            directory=directory,
            command=command,
            runs=[str(number) for number in range(len(configs))],
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            git_commit=git_commit(),
        )
        runs = list(zip(configs, sweep.folders, strict=True))
        for config, folder in runs:
            refuse_to_start(config, folder)
        for config, folder in tqdm(runs, "freezing", unit="run", delay=0.5, leave=False, disable=None):
            folder.mkdir(parents=True, exist_ok=True)
            changes = config.resume.override and (folder / layout.RECORDS_FILE).exists()
            name = layout.CHANGED_CONFIG_FILE if changes else layout.CONFIG_FILE
            write_atomically(folder / name, to_yaml(config.public()).encode())
            if not changes:
                (folder / layout.CHANGED_CONFIG_FILE).unlink(missing_ok=True)
        manifest = {key: value for key, value in asdict(sweep).items() if key != "directory"}
        write_json(directory / layout.MANIFEST, manifest)
        return sweep

    def freeze_what_is_gone(self, configs: Sequence[Config]) -> None:
        """Write the configuration of every run whose folder is not there any more. It stays lost until it begins."""
        for config, folder in zip(configs, self.folders, strict=True):
            if not folder.exists():
                log.warning("the folder of run %s is gone; it begins anew, as conf/ says today", folder.name)
                folder.mkdir()
                (folder / layout.LOG_FILE).touch()
                write_atomically(folder / layout.CONFIG_FILE, to_yaml(config.public()).encode())

    @classmethod
    def open(cls, directory: Path) -> Sweep | None:
        """The sweep in this folder, or None. Raises `UsageError` if its manifest cannot be read."""
        try:
            manifest = reading.manifest_of(directory)
        except UsageError as error:
            raise UsageError(f"{error}; the runs in it are as they were: choose another out_dir") from None
        keys = [field.name for field in fields(cls) if field.name != "directory"]
        return cls(directory, **{key: manifest[key] for key in keys}) if manifest else None


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """While this is open no other process freezes, runs or submits a sweep here."""
    directory.mkdir(parents=True, exist_ok=True)
    busy = f"another sweep runs in {directory}; see it by --status, stop it by --cancel"
    with held(directory / SWEEP_LOCK_FILE, busy):
        write_atomically(directory / SWEEP_OWNER_FILE, f"{platform.node()} {os.getpid()}".encode())
        yield


def owner(directory: Path) -> tuple[str, int] | None:
    """Host and process of the sweep that runs in `directory` now, or None."""
    if not is_held(directory / SWEEP_LOCK_FILE):
        return None
    try:
        host, pid = (directory / SWEEP_OWNER_FILE).read_text().split()
        return host, int(pid)
    except (OSError, ValueError):
        file = directory / SWEEP_OWNER_FILE
        raise UsageError(f"{file} does not say which process runs this sweep: stop it by hand") from None


def thaw(folder: Path, with_changes: bool = True) -> Config:
    """The frozen configuration of a run. Secrets come from the environment; one that is not there is null.

    A run that has begun keeps its own until it has taken the one that resume.override=true brings, `with_changes`.
    Raises `UsageError` if the configuration cannot be read.
    """
    changed = with_changes and (folder / layout.CHANGED_CONFIG_FILE).exists()
    name = layout.CHANGED_CONFIG_FILE if changed else layout.CONFIG_FILE
    return Config.parse(secrets.restore(reading.config_of(folder, name)))
