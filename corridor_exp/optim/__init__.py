"""Optimizers of our own, those of other packages, and what makes any torch optimizer safe and scheduled."""

from corridor_exp.optim.clr import CLR, CLRMomentum
from corridor_exp.optim.dal import DAL
from corridor_exp.optim.descent import Descent
from corridor_exp.optim.drive import at_hand, evaluation_weights, guarded_step, step_size_of
from corridor_exp.optim.polyak import DecSPS, HazanKakade, Polyak, SPSMax
from corridor_exp.optim.schedules import build_schedule
from corridor_exp.optim.trust import CLRTrust

__all__ = [
    "CLR",
    "DAL",
    "CLRMomentum",
    "CLRTrust",
    "DecSPS",
    "Descent",
    "HazanKakade",
    "Polyak",
    "SPSMax",
    "at_hand",
    "build_schedule",
    "evaluation_weights",
    "guarded_step",
    "step_size_of",
]
