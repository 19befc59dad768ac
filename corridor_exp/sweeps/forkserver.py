"""Imported by multiprocessing's fork server alone, ahead of all else: a signal to the sweep's group must not end it.

From it the sweep learns how a run has ended: without it, that all have, while they are still saving. It ends by
itself once the sweep has. A run takes its signals back first thing, but for those that the sweep was told to ignore.
"""

from __future__ import annotations

import signal

from corridor_exp.signals import StopSignals

HEEDED = [number for number in StopSignals.NUMBERS if signal.getsignal(number) is not signal.SIG_IGN]
for number in HEEDED:
    signal.signal(number, signal.SIG_IGN)
