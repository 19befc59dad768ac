"""How the engine drives any torch optimizer: one guarded update, the step it took, its weights for evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from corridor_exp.optim.descent import Descent
from corridor_exp.theory.vectors import squared_norm


def guarded_step(optimizer: Optimizer, loss: Tensor) -> Tensor:
    """`optimizer.step(lambda: loss)`, suppressed where E or g is not finite, or g = 0. Returns ‖g‖².

    Our own optimizers measure and guard the gradient themselves. torch's are told by `found_inf`, which their fused
    kernels read on the device. Any other one costs a host sync a step, which on a CPU is nothing.
    """
    if isinstance(optimizer, Descent):
        optimizer.step(lambda: loss)
        return optimizer.grad_norm_sq
    norm_sq = squared_norm([p.grad for p in _parameters(optimizer) if p.grad is not None])
    n, E = at_hand(norm_sq), at_hand(loss)
    sound = (abs(n + E) < math.inf) & (n > 0)
    if isinstance(sound, Tensor) and optimizer.defaults.get("fused"):
        optimizer.found_inf = (~sound).to(torch.float32)  # type: ignore[attr-defined]
    elif not sound:
        return norm_sq
    optimizer.step(lambda: loss)  # type: ignore[arg-type, return-value]
    return norm_sq


def at_hand(number: Tensor) -> Any:
    """A 0-dim tensor to decide by: on a device itself, so that nobody waits for it; on the host Python's number.

    There a decision of five small operations would cost a tenth of a small model's step.
    """
    return number.item() if number.is_cpu else number


def step_size_of(optimizer: Optimizer) -> Tensor | float | None:
    """The step h that the optimizer took or, where it is scheduled, is about to take; None if it tells no such number.

    It is `group["lr"]`, unless an adapter of `rivals` says where its package keeps it.
    """
    tell = getattr(optimizer, "tell_step_size", None)
    h: Tensor | float | None = tell() if tell else optimizer.param_groups[0].get("lr")
    return h


@contextmanager
def evaluation_weights(optimizer: Optimizer) -> Iterator[None]:
    """The parameters as the optimizer wants them tested, such as an average; afterwards their own bits again."""
    if not hasattr(optimizer, "eval"):
        yield
        return
    params = _parameters(optimizer)
    own = [p.detach().clone() for p in params]
    optimizer.eval()
    try:
        yield
    finally:
        if hasattr(optimizer, "train"):
            optimizer.train()
        with torch.no_grad():
            torch._foreach_copy_(params, own)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
