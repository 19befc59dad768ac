"""Optimizers of our own, those of other packages, and what a run asks of any optimizer."""

from corridor_exp.optim.cdat import CDAT
from corridor_exp.optim.clr import CLR, CLRMomentum
from corridor_exp.optim.contract import Adapter, GuardedOptimizer, guarded, scalar
from corridor_exp.optim.dal import DAL
from corridor_exp.optim.descent import Descent
from corridor_exp.optim.line_search import SLS, PoNoS
from corridor_exp.optim.ngn import NGN, NGNMomentum
from corridor_exp.optim.polyak import DecSPS, HazanKakade, Polyak, SPSMax
from corridor_exp.optim.schedule_free import ScheduleFreePolyak
from corridor_exp.optim.schedules import build_schedule
from corridor_exp.optim.trust import CLRTrust

__all__ = [
    "CDAT",
    "CLR",
    "DAL",
    "NGN",
    "SLS",
    "Adapter",
    "CLRMomentum",
    "CLRTrust",
    "DecSPS",
    "Descent",
    "GuardedOptimizer",
    "HazanKakade",
    "NGNMomentum",
    "PoNoS",
    "Polyak",
    "SPSMax",
    "ScheduleFreePolyak",
    "build_schedule",
    "guarded",
    "scalar",
]
