"""Probes: they measure the loss surface during training and never change the run."""

from corridor_exp.probes.base import Probe
from corridor_exp.probes.corridor import Corridor
from corridor_exp.probes.drift import Drift
from corridor_exp.probes.noise import Noise
from corridor_exp.probes.sharpness import Sharpness

__all__ = ["Corridor", "Drift", "Noise", "Probe", "Sharpness"]
