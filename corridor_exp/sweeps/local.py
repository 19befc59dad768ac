"""Runs as processes on this machine, forked from one process that has imported torch.

Importing torch takes seconds, and a fork takes milliseconds. The fork is safe because this process, multiprocessing's
fork server, has only imported modules: it has no OpenMP threads and no CUDA context, which would not survive a fork.
(OpenBLAS, whose threads numpy starts, handles forks.) Each run has its own process, so a crash ends only this run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tqdm import tqdm

from corridor_exp.config import targets
from corridor_exp.runs import reading
from corridor_exp.runs.layout import Status
from corridor_exp.signals import StopSignals
from corridor_exp.sweeps.status import share_done
from corridor_exp.sweeps.worker import fail, last_line, work

LIBRARIES = (
    "corridor_exp.engine.run",
    "corridor_exp.models",
    "sklearn.datasets",  # for the second that digits takes
    "wandb.sdk.launch",  # for the second that the first run of W&B in a process takes
)
PRELOAD = ("corridor_exp.sweeps.forkserver", *LIBRARIES)


def run_here(folders: list[Path], processes: int, fail_fast: bool = False) -> bool:
    """Run all, `processes` at a time. False if a signal came: it was passed on, and every run has saved.

    `fail_fast`: once a run has failed no other begins, and those that run are told to save.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    waiting = deque(folders)
    active: dict[int, tuple[ForkServerProcess, Path]] = {}
    with (
        StopSignals("corridor-sweep: {}: stopping; waiting for the runs to save") as stop,
        Progress(folders) as progress,
    ):
        try:
            failed = False
            while active or (waiting and not (failed or stop.asked)):
                while waiting and len(active) < processes and not (failed or stop.asked):
                    folder = waiting.popleft()
                    process = context.Process(target=_child, args=(folder, targets.allowed()), name=folder.name)
                    process.start()
                    active[process.sentinel] = process, folder
                if failed or stop.asked:  # repeatedly, because a run may have begun just now
                    for process, _ in active.values():
                        process.terminate()
                progress.show([folder for _, folder in active.values()], len(waiting))
                for sentinel in wait(list(active), timeout=0.5):
                    assert isinstance(sentinel, int)
                    process, folder = active.pop(sentinel)
                    process.join()
                    if process.exitcode and not stop.asked:
                        fail(folder, _cause(process.exitcode, folder))
                    failed |= fail_fast and reading.read_summary(folder).get("status") == Status.FAILED
                progress.show([folder for _, folder in active.values()], len(waiting))
        finally:
            for process, _ in active.values():
                process.terminate()
    return not stop.asked


class Progress:
    """A line that says how many runs have ended, which ones run, and the time to go as soon as the runs know theirs.

    In a terminal it is renewed every two seconds, in a log file every half minute.
    """

    FORMAT = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"

    def __init__(self, folders: list[Path]) -> None:
        self.total = len(folders)
        self.interval = 2.0 if sys.stderr.isatty() else 30.0
        self.shown = 0.0  # when
        done = sum(map(share_done, folders))  # of runs that go on
        self.bar = tqdm(total=self.total, initial=done, smoothing=0, mininterval=0, bar_format=self.FORMAT)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, active: list[Path], waiting: int) -> None:
        """Renew the line if it is time, or once no run is left."""
        left = len(active) + waiting
        if left and time.monotonic() < self.shown + self.interval:
            return
        self.shown = time.monotonic()
        self.bar.n = self.total - left + sum(map(share_done, active))
        running = f", running {' '.join(folder.name for folder in active)}" if active else ""
        self.bar.set_postfix_str(f"{self.total - left} of {self.total} runs ended{running}")


def _child(folder: Path, allow_targets: tuple[str, ...]) -> None:
    from corridor_exp.sweeps.forkserver import HEEDED  # the fork server has imported it; the sweep must not

    for number in HEEDED:
        signal.signal(number, signal.SIG_DFL)  # as before
    threading.Thread(target=_stop_with_the_sweep, daemon=True).start()
    work(folder, allow_targets)


def _stop_with_the_sweep() -> None:
    """If the sweep is killed, its run saves and ends, so that the next start of the sweep finds it free."""
    sweep = multiprocessing.parent_process()
    assert sweep is not None
    sweep.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _cause(exit_code: int, folder: Path) -> str:
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}: {last_line(folder)}"
