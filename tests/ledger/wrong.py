"""Wrong versions of the paper's formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from corridor_exp.optim import Descent
from corridor_exp.theory import flows, stepsizes

clr, descent_init, rk4_step = stepsizes.clr, Descent.__init__, flows.rk4_step


def times(factor: float, f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: factor * f(*args, **kwargs)


def squared(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: f(*args) ** 2


def one_minus(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: 1 - f(*args)


def sgd_field(first_term: float = 1.0, last_term: float = 1.0, divide: bool = True) -> Callable[..., Any]:
    """Eq. 20 with its regularization terms times a factor, and the last one's 1/m."""

    def modified(batch_gradients, h):
        def field(theta):
            with torch.enable_grad():
                point = theta.detach().requires_grad_()
                each = torch.stack([g(point) for g in batch_gradients])
                g = each.mean(0)
                spread = (g - each).square().sum() / (len(each) if divide else 1)
                penalty = first_term * g.square().sum() + last_term * spread
                (implicit,) = torch.autograd.grad(h / 4 * penalty, point)
            return g.detach() + implicit

        return field

    return modified


def descent_off_by_one_percent(g, theta, h, steps):
    for _ in range(steps):
        theta = theta - 1.01 * h * g(theta)
        yield theta


def rk4_without_h(g, theta, h):
    return theta + (rk4_step(g, theta, h) - theta) / h


def f_star_with_the_wrong_sign(self, params, *, f_star=0.0, **options):
    descent_init(self, params, f_star=-f_star, **options)


def clr_upside_down(loss, grad_norm_sq, scale=1.0):
    return loss.clamp(min=0) / grad_norm_sq / scale
