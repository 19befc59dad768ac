"""Instruments that look at the loss surface on the way and never disturb the run."""

from corridor_exp.probes.base import Probe
from corridor_exp.probes.corridor import Corridor

__all__ = ["Corridor", "Probe"]
