"""Optimizers of our own, those of other packages, and what a run asks of any optimizer."""

from corridor_exp.optim.clr import CLR, CLRMomentum
from corridor_exp.optim.contract import Adapter, GuardedOptimizer, guarded, scalar
from corridor_exp.optim.dal import DAL
from corridor_exp.optim.descent import Descent
from corridor_exp.optim.polyak import DecSPS, HazanKakade, Polyak, SPSMax
from corridor_exp.optim.schedules import build_schedule
from corridor_exp.optim.trust import CLRTrust

__all__ = [
    "CLR",
    "DAL",
    "Adapter",
    "CLRMomentum",
    "CLRTrust",
    "DecSPS",
    "Descent",
    "GuardedOptimizer",
    "HazanKakade",
    "Polyak",
    "SPSMax",
    "build_schedule",
    "guarded",
    "scalar",
]
