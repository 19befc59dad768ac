"""Where a run lies, and whether it may begin there."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from corridor_exp.config.differences import difference, identity
from corridor_exp.config.schema import Config
from corridor_exp.config.secrets import without_lost_secrets
from corridor_exp.errors import UsageError
from corridor_exp.runs import reading
from corridor_exp.runs.layout import CHECKPOINTS, CONFIG_FILE, ENDED, RECORDS_FILE, SUMMARY_FILE, Status

log = logging.getLogger(__name__)


def run_directory(config: Config) -> Path:
    """Where a run lies: in out_dir, or in outputs/<name>/<run id>."""
    if config.out_dir is not None:
        return Path(config.out_dir).expanduser().absolute()
    return Path("outputs").absolute() / config.name / config.run_id()


def refuse_place(directory: Path) -> None:
    """Raise `UsageError` if no run can lie there: a file is in the way, or a name is too long."""
    there = _nearest(directory)
    if not there.is_dir():
        raise UsageError(f"out_dir={directory}: {there} is not a folder")
    if not os.access(there, os.X_OK):
        raise UsageError(f"out_dir={directory}: {there} cannot be opened")
    longest = max(len(os.fsencode(name)) for name in directory.parts)
    below = len(os.fsencode(directory)) + 200  # room for the names in a run directory
    if longest > os.pathconf(there, "PC_NAME_MAX") or below > os.pathconf(there, "PC_PATH_MAX"):
        raise UsageError(f"out_dir={directory}: the name is too long for this file system")


def refuse_to_write(directory: Path) -> None:
    """The same, and raise `UsageError` too if no file can be written there."""
    refuse_place(directory)
    there = _nearest(directory)
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"out_dir={directory}: {there} cannot be written")


def _nearest(directory: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    return next(place for place in (directory, *directory.parents) if os.path.lexists(place))


def ended_before(config: Config, directory: Path, tell: bool = True) -> Status | None:
    """How a run has ended that is not to go on, which one line tells. None for any other."""
    status = reading.read_summary(directory).get("status")
    if status not in ENDED or config.resume.override:
        return None
    if tell:
        log.info("this run has %s before; see %s", status, directory / SUMMARY_FILE)
    return Status(status)


def refuse_to_start(config: Config, directory: Path) -> None:
    """Raise `UsageError` if the directory holds a run with another configuration, or if a parent run is missing.

    A run that ended before its first record, for instance because data were missing, may be started with changes.
    """
    has_begun = (directory / RECORDS_FILE).exists() or any((directory / CHECKPOINTS).glob("*.pt"))
    if not has_begun and reading.read_summary(directory).get("status") not in ENDED:
        parent = config.parent()
        if parent and not (parent[0] / CHECKPOINTS).is_dir():
            raise UsageError(
                f"fork_from={config.fork_from}: {parent[0].absolute()} has no {CHECKPOINTS}/ to start from"
            )
        stored, faults = reading.read_config(directory)
        if not faults and "seed" not in stored:
            raise UsageError(f"{directory} holds a {CONFIG_FILE} that no run wrote: choose another out_dir")
        return
    if config.resume.override:
        return
    stored, faults = reading.read_config(directory)
    if faults:
        raise UsageError(f"{directory}: {faults[0]}; choose another out_dir, or go on by resume.override=true")
    here = config.identity()
    if lines := difference(without_lost_secrets(identity(stored), here), here):
        raise UsageError(
            f"{directory} holds another run ({'; '.join(lines)}): choose another out_dir, "
            "or go on with the changed configuration by resume.override=true"
        )
