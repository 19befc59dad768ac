"""Learning-rate schedules, torch's, counted in steps."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingWarmRestarts, LinearLR, LRScheduler, SequentialLR


def build_schedule(
    optimizer: Optimizer,
    total_steps: int,
    name: str,
    *,
    warmup: int = 0,
    period: int | None = None,
    period_factor: int = 1,
    min_lr: float = 0.0,
) -> LRScheduler | None:
    """The learning rate of each step, relative to the option's lr; None where it never changes.

    `cosine` is Eq. 5 of SGDR (Loshchilov & Hutter, 2017), h = h_min + ½(h_max − h_min)(1 + cos(πT/T_i)) with
    T_{i+1} = period_factor · T_i; without a period it decays once, over what the warm-up leaves of the run.
    `constant` is the other name.
    """
    main: LRScheduler
    if name == "constant" and not warmup:
        return None
    if name == "cosine":
        period = period or max(total_steps - warmup, 1)
        main = CosineAnnealingWarmRestarts(optimizer, period, period_factor, eta_min=min_lr)
    else:
        main = ConstantLR(optimizer, factor=1.0)
    if not warmup:
        return main
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [rise, main], milestones=[warmup])
