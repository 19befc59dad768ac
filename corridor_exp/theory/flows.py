"""Gradient descent, momentum, Runge–Kutta and the gradient flow: how θ moves, given its gradient field.

Symbols: θ a tensor of any shape, g(θ) its gradient, h the step, t time. Every function takes g as a callable and is
differentiable where g is. Eq. 4–20 of the paper; where its print has slipped, the docstring says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

Field = Callable[[Tensor], Tensor]


def gradient_descent(g: Field, theta: Tensor, h: float, steps: int) -> Iterator[Tensor]:
    """θ_t = θ_{t−1} − h g(θ_{t−1}) for t = 1 … steps."""
    for _ in range(steps):
        theta = theta - h * g(theta)
        yield theta


def momentum(g: Field, theta: Tensor, h: float, beta: float, steps: int, v: Tensor | None = None) -> Iterator[Tensor]:
    """Eq. 4–6: v_t = βv_{t−1} − h g(θ_{t−1}), θ_t = θ_{t−1} + v_t, from v_0 = 0 or a given velocity."""
    v = torch.zeros_like(theta) if v is None else v
    for _ in range(steps):
        v = beta * v - h * g(theta)
        theta = theta + v
        yield theta


def momentum_velocity(g0: Tensor, h: float, beta: float, t: int) -> Tensor:
    """Eq. 7: v_t = −h (1 − β^t)/(1 − β) g(θ_0), momentum's velocity inside a corridor."""
    return -h * (1 - beta**t) / (1 - beta) * g0


def momentum_position(theta0: Tensor, g0: Tensor, h: float, beta: float, t: int) -> Tensor:
    """Eq. 8: θ_t = θ_0 − h/(1 − β) Σ_{i=1…t} (1 − β^i) g(θ_0), the sum of Eq. 7's velocities.

    Eq. 11 of the print, which derives it, has θ_{t−1} for θ_0.
    """
    return theta0 + sum((momentum_velocity(g0, h, beta, i) for i in range(1, t + 1)), torch.zeros_like(theta0))


def momentum_speed(n: int, beta: float, exponent_shift: int = 1) -> float:
    """Eq. 12: the speed of momentum's flow in a corridor, θ̇ = −c_n g on [hn, h(n+1)], c_n = (1 − β^{n+1})/(1 − β).

    The print has β^n (`exponent_shift=0`), by which momentum would rest during its first step: that contradicts
    Eq. 8.
    """
    return (1 - beta ** (n + exponent_shift)) / (1 - beta)


def descent_drift(hg: Tensor, h: float) -> Tensor:
    """Proof of Theorem 3.1: θ_GF(h) − θ_GD(h) = (h²/2) Hg + O(h³), how far one step leaves the flow."""
    return h**2 / 2 * hg


def rk4_step(g: Field, theta: Tensor, h: float) -> Tensor:
    """Eq. 14–18: one step of the classical Runge–Kutta method on θ̇ = −g(θ). Eq. 18 of the print has lost the h."""
    k1 = -g(theta)
    k2 = -g(theta + h / 2 * k1)
    k3 = -g(theta + h / 2 * k2)
    k4 = -g(theta + h * k3)
    return theta + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


# Dormand & Prince (1980), the pair of orders 5 and 4 behind most ODE codes.
_A = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def dormand_prince_step(g: Field, theta: Tensor, h: float, k1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Dormand & Prince's pair on θ̇ = −g(θ), given k1 = −g(θ): θ(h) to order 5, −g there, and the error.

    The error is the difference from the step of order 4, a tensor like θ. Six gradients; the last is the next k1.
    """
    k, end = [k1], theta
    for row in _A[1:]:
        end = theta + h * _combination(row, k)
        k.append(-g(end))
    return end, k[-1], h * _combination(_ERROR, k)


def gradient_flow(
    g: Field, theta: Tensor, duration: float, *, rtol: float = 1e-6, atol: float = 1e-9, max_evaluations: int = 100_000
) -> Tensor:
    """θ(duration) under the gradient flow θ̇ = −g(θ), θ(0) = θ, by Runge–Kutta 5(4) with error control.

    A step is accepted if its estimated error is at most atol + rtol‖θ‖ in the Euclidean norm. Raises
    `ArithmeticError` where that needs more than `max_evaluations` gradients (a kink crossed at a tight tolerance),
    and `ValueError` where g has not the shape of θ, which would grow from step to step.
    """
    k1, done, evaluations = -g(theta), 0.0, 1
    if k1.shape != theta.shape:
        raise ValueError(f"the gradient has the shape {tuple(k1.shape)}, and θ {tuple(theta.shape)}")
    step = min(duration, 0.01 * (1 + theta.norm().item()) / (1e-12 + k1.norm().item()))
    while done < duration:
        step = min(step, duration - done)
        end, slope, estimate = dormand_prince_step(g, theta, step, k1)
        evaluations += 6
        if evaluations > max_evaluations:
            raise ArithmeticError(f"the gradient flow needs more than {max_evaluations} gradients to reach {duration}")
        error = estimate.norm().item() / (atol + rtol * theta.norm().item())
        if error <= 1:
            theta, k1, done = end, slope, done + step
        step *= min(5.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2)) if math.isfinite(error) else 0.2
    return theta


def _combination(weights: Sequence[float], k: Sequence[Tensor]) -> Tensor:
    total = torch.zeros_like(k[0])
    for weight, stage in zip(weights, k, strict=False):
        total = total + weight * stage
    return total


def sgd_modified_field(batch_gradients: Sequence[Field], h: float) -> Field:
    """Eq. 20: g + (h/4)∇‖g‖² + (h/4m) Σ_i ∇‖g − g_i‖², whose flow SGD follows in expectation over shufflings.

    `batch_gradients` are the g_i of the m batches of an epoch; g is their mean (Smith et al., ICLR 2021). After one
    epoch E_σ[θ_m] = θ(mh) + O(m³h³), Eq. 19.
    """
    m = len(batch_gradients)

    def field(theta: Tensor) -> Tensor:
        with torch.enable_grad():
            point = theta.detach().requires_grad_()
            each = [g_i(point) for g_i in batch_gradients]
            g = torch.stack(each).mean(0)
            spread = sum(((g - g_i).square().sum() for g_i in each), torch.zeros((), dtype=theta.dtype))
            penalty = h / 4 * g.square().sum() + h / (4 * m) * spread
            (implicit,) = torch.autograd.grad(penalty, point)
        return g.detach() + implicit

    return field
