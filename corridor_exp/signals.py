"""Signals that ask a run to stop. Imports no torch, because a command handles them from its start."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType


class StopSignals:
    """While this is open, a signal to stop only sets `asked`. Then the run finishes its step, saves and ends.

    A signal that was ignored before stays ignored, as `nohup` and the background jobs of a shell need it.
    """

    NUMBERS = (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGXCPU,
    )

    def __init__(self, promise: str = "corridor-train: {}: finishing this step, then saving") -> None:
        """`promise` is printed at the first signal, whose name replaces `{}`."""
        self.asked, self.promise = False, promise

    def __enter__(self) -> StopSignals:
        heeded = [number for number in self.NUMBERS if signal.getsignal(number) is not signal.SIG_IGN]
        self.old = {number: signal.signal(number, self._ask) for number in heeded}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            line = f"{self.promise.format(signal.Signals(number).name)}\n"
            with suppress(OSError):  # the terminal may be gone
                os.write(2, line.encode())  # not `print`, which the signal may have interrupted
