"""One frozen run in a process of its own, whoever started that."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from corridor_exp.config import secrets, targets
from corridor_exp.config.logs import log_to_stderr
from corridor_exp.errors import RunError, UsageError, in_words
from corridor_exp.files import regular
from corridor_exp.runs import records
from corridor_exp.signals import StopSignals
from corridor_exp.streams import steady_streams
from corridor_exp.sweeps.frozen import thaw

logger = logging.getLogger(__name__)
LOG = "log.txt"
PATIENCE = 60.0


def work(folder: Path, allow_targets: tuple[str, ...] = ()) -> str:
    """Begin or go on with the run of `folder`, all output to its log. Returns its status.

    `allow_targets` is what the sweep's command line trusts.
    """
    with steady_streams(), StopSignals() as stop:
        try:
            _write_to(folder / LOG)
            log_to_stderr("corridor-train")  # a run writes what that command would print
            from corridor_exp.engine.run import run  # torch, only now

            targets.allow(allow_targets)
            # One whose sweep was killed may still be saving, and is worth waiting for.
            return run(thaw(folder), folder, lambda: stop.asked, patience=PATIENCE)
        except (UsageError, OSError) as error:
            log_to_stderr("corridor-sweep")
            logger.error("%s", in_words(error))
            fail(folder, in_words(error))
            return "failed"


def _write_to(log: Path) -> None:
    """Send all output of this process there."""
    file = os.open(regular(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())
    faulthandler.enable()  # a crash leaves its stack in the log


def fail(folder: Path, error: str) -> None:
    """Write the summary of a run that could not do so itself; unless another process is running it, or nothing can."""
    summary = records.to_json({"status": "failed", "error": secrets.clean(error)}, indent=2) + "\n"
    with suppress(Timeout, OSError, RunError), FileLock(folder / records.LOCK_FILE, timeout=0):
        records.write_atomically(folder / records.SUMMARY_FILE, summary.encode())


def last_line(folder: Path) -> str:
    """What the run said last, or nothing."""
    try:
        lines = regular(folder / LOG).read_text(errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.rpartition("\r")[2].strip() for line in lines if line.strip()]
    return said[-1] if said else ""
