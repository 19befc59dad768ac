"""One frozen run in its own process, on this machine or in a Slurm task."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from corridor_exp.config import secrets, targets
from corridor_exp.config.logs import log_to_stderr
from corridor_exp.errors import RunError, UsageError, in_words
from corridor_exp.files import regular, write_json
from corridor_exp.runs import layout, reading
from corridor_exp.runs.layout import LOG_FILE, Status, held
from corridor_exp.signals import StopSignals
from corridor_exp.streams import steady_streams
from corridor_exp.sweeps.frozen import thaw

log = logging.getLogger(__name__)
PATIENCE = 60.0


def work(folder: Path, allow_targets: tuple[str, ...] = ()) -> Status:
    """Begin or continue the run in `folder`, with all output in its log. Returns its status.

    `allow_targets` are the targets that the sweep's command line trusts.
    """
    with steady_streams(), StopSignals() as stop:
        try:
            _write_to(folder / LOG_FILE)
            log_to_stderr("corridor-train")  # the log of a run is the output of that command
            from corridor_exp.engine.run import run  # torch, only now

            targets.allow(allow_targets)
            # A run whose sweep was killed may still be saving: wait for it.
            return run(thaw(folder), folder, lambda: stop.asked, patience=PATIENCE)
        except (UsageError, OSError) as error:
            log_to_stderr("corridor-sweep")
            log.error("%s", in_words(error))
            fail(folder, in_words(error))
            return Status.FAILED


def _write_to(log: Path) -> None:
    """Send all output of this process there."""
    file = os.open(regular(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())
    faulthandler.enable()  # a crash leaves its stack in the log


def fail(folder: Path, error: str) -> None:
    """Write the summary of a run that could not write it, unless another process runs it or the disk is full.

    A run that has ended, and refuses what a sweep would change, keeps its summary; its log says why.
    """
    if reading.read_summary(folder).get("status") in layout.ENDED:
        with suppress(OSError), regular(folder / LOG_FILE).open("a") as file:
            file.write(f"corridor-sweep: {secrets.clean(error)}\n")
        return
    summary = {"status": Status.FAILED, "error": secrets.clean(error)}
    with suppress(UsageError, OSError, RunError), held(folder / layout.LOCK_FILE, "it runs"):
        write_json(folder / layout.SUMMARY_FILE, summary)


def last_line(folder: Path) -> str:
    """The last line of the run's log; empty if there is none."""
    try:
        lines = regular(folder / LOG_FILE).read_text(errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.rpartition("\r")[2].strip() for line in lines if line.strip()]
    return said[-1] if said else ""
