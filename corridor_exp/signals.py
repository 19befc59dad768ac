"""Signals that ask a run to stop. Knows no torch, as a command listens from its first moment on."""

from __future__ import annotations

import signal
import sys
from types import FrameType


class StopSignals:
    """While this is open, a signal to stop only sets `asked`: the run finishes its step, saves, and ends."""

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> StopSignals:
        self.old = {number: signal.signal(number, self._ask) for number in self.NUMBERS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            name = signal.Signals(number).name
            print(f"corridor-train: {name}: finishing this step, then saving", file=sys.stderr, flush=True)
