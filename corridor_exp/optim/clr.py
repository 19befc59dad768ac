"""The paper's optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT
from torch.optim.sgd import sgd

from corridor_exp.theory import stepsizes
from corridor_exp.theory.vectors import squared_norm


class CLR(Optimizer):
    r"""Eq. 3: gradient descent with the Corridor Learning Rate, θ′ = θ − h g with

    .. math:: h = \min\{\mathrm{scale} \cdot (E(θ) - f^*)/\|g(θ)\|^2, \mathrm{step\_cap}\}

    where E is the loss that g is the gradient of, and ‖g‖² runs over all parameters of all groups.

    Arguments: ``params``; ``scale`` (½ is Hazan & Kakade's step for the lower bound 0); ``step_cap``, an upper
    bound of h, or None; ``f_star``, the smallest value that the loss can take.

    The step is computed on the device, without a host sync, and left as a 0-dim tensor in ``group["lr"]``; ‖g‖² is
    left in ``grad_norm_sq``. If E or ‖g‖² is not finite, or g = 0, the parameters keep their bits and h is 0.

    Assumes that the loss can reach ``f_star``: no label smoothing, no weight decay, no clipped gradient (clipping
    by k < 1 makes the displacement 1/k times as long). Under GradScaler unscale first: ``scaler.unscale_(opt)``,
    then ``scaler.step(opt, loss=loss)`` with the unscaled loss.

    Errors: `TypeError` without a loss; `ValueError` for sparse gradients and impossible settings.

    Source: Dherin & Rosca, arXiv 2402.08818, Eq. 3; Polyak, Introduction to Optimization, 1987.

    Example::

        optimizer = CLR(model.parameters(), step_cap=10)
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(lambda: loss)      # or: optimizer.step(loss=loss)
    """

    def __init__(self, params: ParamsT, scale: float = 1.0, step_cap: float | None = None, f_star: float = 0.0) -> None:
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        if step_cap is not None and not step_cap > 0:
            raise ValueError(f"step_cap must be positive or None, got {step_cap}")
        super().__init__(params, {"lr": torch.zeros(())})
        self.scale, self.step_cap, self.f_star = scale, step_cap, f_star
        self.grad_norm_sq = torch.zeros(())

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, loss: Tensor | float | None = None) -> Any:
        """One update. The loss is ``loss``, or what ``closure`` returns; a closure may compute the gradient too."""
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if loss is None:
            raise TypeError("CLR needs the loss: optimizer.step(lambda: loss) or optimizer.step(loss=loss)")
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not params:
            return loss
        grads = [_dense_gradient(p) for p in params]
        self.grad_norm_sq = squared_norm(grads)
        E = torch.as_tensor(loss, device=self.grad_norm_sq.device).detach().to(self.grad_norm_sq.dtype)
        h = stepsizes.clr(E, self.grad_norm_sq, self.f_star, self.scale)
        if self.step_cap is not None:
            h = h.clamp(max=self.step_cap)
        sound = E.isfinite() & self.grad_norm_sq.isfinite() & (self.grad_norm_sq > 0) & h.isfinite()
        h = torch.where(sound, h, 0)
        descend(params, grads, h, unsound=~sound)
        for group in self.param_groups:
            group["lr"] = h
        return loss


def descend(params: list[Tensor], grads: list[Tensor], h: Tensor, unsound: Tensor) -> None:
    """θ ← θ − h g in one pass over memory, or nothing at all where `unsound` is true. Never syncs.

    It is torch's fused SGD kernel, which takes the step as a tensor and skips by `found_inf`; 0·NaN would be NaN.
    """
    pairs = [(torch.view_as_real(p), torch.view_as_real(g)) if p.is_complex() else (p, g)
             for p, g in zip(params, grads, strict=True)]  # fmt: skip
    sgd(
        [p for p, _ in pairs],
        [g for _, g in pairs],
        [None] * len(pairs),
        fused=True,
        found_inf=unsound.to(torch.float32),
        lr=h,
        weight_decay=0,
        momentum=0,
        dampening=0,
        nesterov=False,
        maximize=False,
    )


def _dense_gradient(p: Tensor) -> Tensor:
    """p's gradient, laid out as p is: the fused CPU kernel walks both in memory order and does not look."""
    g = p.grad
    assert g is not None
    if g.is_sparse:
        raise ValueError("CLR does not take sparse gradients; use torch.nn.Embedding(sparse=False)")
    return g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
