"""Only multiprocessing's fork server imports this, and first: a signal to the sweep's process group must not end it.

The sweep learns from the fork server how a run has ended. Without it all runs would look ended while they still save.
It ends when the sweep ends. A run first restores its signals, except those that the sweep itself ignores.
"""

from __future__ import annotations

import signal

from corridor_exp.signals import StopSignals

HEEDED = [number for number in StopSignals.NUMBERS if signal.getsignal(number) is not signal.SIG_IGN]
for number in HEEDED:
    signal.signal(number, signal.SIG_IGN)
