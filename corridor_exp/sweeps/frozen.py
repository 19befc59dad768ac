"""A sweep on disk: every configuration frozen in a folder of its own before the first run starts.

What is edited in `conf/` afterwards reaches none of them. `sweep.json` is written last: a folder without it was not
yet a sweep when something stopped it, and is frozen again.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from corridor_exp import records, secrets
from corridor_exp.config import Config, refuse_to_start
from corridor_exp.errors import UsageError
from corridor_exp.files import load_yaml, regular
from corridor_exp.provenance import git_commit

MANIFEST = "sweep.json"
SUBMITTED = Path("slurm", "jobs.json")  # the newest Slurm job of each run, beside what submitit writes
LOCK = ".sweep.lock"
OWNER = ".sweep.owner"


@dataclass(frozen=True)
class Sweep:
    """The manifest: which runs lie in `directory`, and by which command, when and from which code they came."""

    directory: Path
    command: list[str]
    runs: list[str]
    time: str
    git_commit: str | None

    @property
    def folders(self) -> list[Path]:
        return records.run_folders(self.directory, self.runs)

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
        for config, folder in zip(configs, sweep.folders, strict=True):
            refuse_to_start(config, folder)
        for config, folder in zip(configs, sweep.folders, strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(config.public(), sort_keys=False, allow_unicode=True)
            records.write_atomically(folder / records.CONFIG_FILE, text.encode())
        manifest = {key: value for key, value in asdict(sweep).items() if key != "directory"}
        records.write_atomically(directory / MANIFEST, (records.to_json(manifest, indent=2) + "\n").encode())
        return sweep

    @classmethod
    def open(cls, directory: Path) -> Sweep | None:
        """The sweep that lies there, or None."""
        try:
            return cls(directory, **json.loads(regular(directory / MANIFEST).read_text()))
        except (FileNotFoundError, NotADirectoryError):
            return None


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """While this is open no other process freezes, runs or submits a sweep here."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(directory / LOCK, timeout=0):
            (directory / OWNER).write_text(f"{platform.node()} {os.getpid()}")
            yield
    except Timeout:
        raise UsageError(f"another sweep runs in {directory}; see it by --status, stop it by --cancel") from None


def owner(directory: Path) -> tuple[str, int] | None:
    """Host and process of the sweep that runs in `directory` now, or None."""
    if not is_locked(directory / LOCK):
        return None
    host, pid = (directory / OWNER).read_text().split()
    return host, int(pid)


def is_locked(lock: Path) -> bool:
    """Whether a living process holds a lock. A lock file alone says nothing: it outlives its holder."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def thaw(folder: Path) -> Config:
    """The frozen configuration of a run. A secret comes from the environment, or is null where that has none."""
    stored: dict[str, Any] = load_yaml(folder / records.CONFIG_FILE)
    return Config.parse(secrets.restore(stored))
