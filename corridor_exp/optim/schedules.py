"""Learning-rate schedules, torch's, counted in steps."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingWarmRestarts, LinearLR, LRScheduler, SequentialLR

from corridor_exp.config.schema import Schedule


def build_schedule(optimizer: Optimizer, schedule: Schedule, total_steps: int) -> LRScheduler | None:
    """The learning rate of each step, relative to the option's lr; None where it never changes.

    `cosine` is Eq. 5 of SGDR (Loshchilov & Hutter, 2017), h = h_min + ½(h_max − h_min)(1 + cos(πT/T_i)) with
    T_{i+1} = period_factor · T_i; without a period it decays once, over what the warm-up leaves of the run.
    """
    main: LRScheduler
    if schedule.name == "constant" and not schedule.warmup:
        return None
    if schedule.name == "cosine":
        period = schedule.period or max(total_steps - schedule.warmup, 1)
        main = CosineAnnealingWarmRestarts(optimizer, period, schedule.period_factor, eta_min=schedule.min_lr)
    else:
        main = ConstantLR(optimizer, factor=1.0)
    if not schedule.warmup:
        return main
    rise = LinearLR(optimizer, start_factor=1 / (schedule.warmup + 1), total_iters=schedule.warmup)
    return SequentialLR(optimizer, [rise, main], milestones=[schedule.warmup])
