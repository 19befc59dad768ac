"""A sweep on disk: every configuration frozen in a folder of its own before the first run starts.

What is edited in `conf/` afterwards reaches none of them. `sweep.json` is written last: a folder without it was not
yet a sweep when something stopped it, and is frozen again.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from filelock import FileLock, Timeout
from tqdm import tqdm

from corridor_exp.config import secrets
from corridor_exp.config.places import refuse_to_start
from corridor_exp.config.schema import Config
from corridor_exp.errors import UsageError
from corridor_exp.runs import reading, records
from corridor_exp.runs.provenance import git_commit
from corridor_exp.runs.reading import MANIFEST

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
        runs = list(zip(configs, sweep.folders, strict=True))
        for config, folder in runs:
            refuse_to_start(config, folder)
        for config, folder in tqdm(runs, "freezing", unit="run", delay=0.5, leave=False, disable=None):
            folder.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(config.public(), sort_keys=False, allow_unicode=True)
            records.write_atomically(folder / records.CONFIG_FILE, text.encode())
            if config.resume.override:  # a run that has ended goes on
                (folder / records.SUMMARY_FILE).unlink(missing_ok=True)
        manifest = {key: value for key, value in asdict(sweep).items() if key != "directory"}
        records.write_atomically(directory / MANIFEST, (records.to_json(manifest, indent=2) + "\n").encode())
        return sweep

    @classmethod
    def open(cls, directory: Path) -> Sweep | None:
        """The sweep that lies there, or None. Raises `UsageError` where its manifest cannot be read."""
        manifest, faults = reading.read_manifest(directory)
        if faults:
            raise UsageError(f"{directory}: {faults[0]}; the runs in it are as they were: choose another out_dir")
        return cls(directory, **manifest) if manifest else None


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """While this is open no other process freezes, runs or submits a sweep here."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(directory / LOCK, timeout=0):
            records.write_atomically(directory / OWNER, f"{platform.node()} {os.getpid()}".encode())
            yield
    except Timeout:
        raise UsageError(f"another sweep runs in {directory}; see it by --status, stop it by --cancel") from None


def owner(directory: Path) -> tuple[str, int] | None:
    """Host and process of the sweep that runs in `directory` now, or None."""
    if not is_locked(directory / LOCK):
        return None
    try:
        host, pid = (directory / OWNER).read_text().split()
        return host, int(pid)
    except (OSError, ValueError):
        raise UsageError(f"{directory / OWNER} does not say which process runs this sweep: stop it by hand") from None


def is_locked(lock: Path) -> bool:
    """Whether a living process holds a lock. A lock file alone says nothing: it outlives its holder."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # it is no file, or somebody else's
        return False


def thaw(folder: Path) -> Config:
    """The frozen configuration of a run. A secret comes from the environment, or is null where that has none.

    Raises `UsageError` where it cannot be read.
    """
    stored, faults = reading.read_config(folder)
    if faults:
        raise UsageError(f"{folder}: {faults[0]}")
    return Config.parse(secrets.restore(stored))
