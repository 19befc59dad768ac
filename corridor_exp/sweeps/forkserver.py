"""Imported by multiprocessing's fork server alone, ahead of all else: a signal to the sweep's group must not end it.

From it the sweep learns how a run has ended: without it, that all have, while they are still saving. It ends by
itself once the sweep has. A run takes its signals back first thing.
"""

from __future__ import annotations

import signal

from corridor_exp.signals import StopSignals

for number in StopSignals.NUMBERS:
    signal.signal(number, signal.SIG_IGN)
