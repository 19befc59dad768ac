"""Optimizers of our own, and what makes any torch optimizer safe and scheduled."""

from corridor_exp.optim.clr import CLR
from corridor_exp.optim.guard import guarded_step
from corridor_exp.optim.schedules import build_schedule

__all__ = ["CLR", "build_schedule", "guarded_step"]
