"""One update that lets no non-finite number reach θ, for any optimizer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from corridor_exp.theory.vectors import squared_norm


def guarded_step(optimizer: Optimizer, loss: Tensor) -> Tensor:
    """`optimizer.step(lambda: loss)`, suppressed where the loss or the gradient is not finite. Returns ‖g‖².

    Our own optimizers measure and guard the gradient themselves. torch's are told by `found_inf`, which their fused
    kernels read on the device. Any other one costs a host sync a step.
    """
    if hasattr(optimizer, "grad_norm_sq"):
        optimizer.step(lambda: loss)  # type: ignore[arg-type, return-value]
        norm_sq: Tensor = optimizer.grad_norm_sq
        return norm_sq
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm_sq = squared_norm(grads)
    unsound = ~(norm_sq + loss).isfinite()
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = unsound.to(torch.float32)  # type: ignore[attr-defined]
    elif unsound:
        return norm_sq
    optimizer.step(lambda: loss)  # type: ignore[arg-type, return-value]
    return norm_sq
