"""Appendix A: momentum, Runge–Kutta and stochastic gradient descent in corridors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from corridor_exp.ledger.examples import (
    GRADIENTS,
    THETA,
    around_an_ellipse,
    field,
    flow,
    largest,
    order,
    points,
    quartic,
    vector,
)
from corridor_exp.ledger.rows import claim
from corridor_exp.theory import flows, surfaces
from corridor_exp.theory.surfaces import Loss

# -------------------------------------------------------------------- A.1: momentum

H, BETA, STEPS = 0.02, 0.9, 12
START = 6 * THETA


def cone_and_gradient() -> tuple[Loss, Tensor]:
    E = surfaces.cone(1.0)
    return E, surfaces.gradient(E, START)


def momentum_path() -> list[Tensor]:
    E, _ = cone_and_gradient()
    return [START, *flows.momentum(field(E), START, H, BETA, STEPS)]


@claim("Eq. 4–6", "momentum is torch's, on any surface", at_most=1e-12)
def momentum() -> float:
    p, error = nn.Parameter(THETA.clone()), 0.0
    optimizer = torch.optim.SGD([p], lr=H, momentum=BETA)
    for theta in flows.momentum(field(quartic), THETA, H, BETA, STEPS):
        p.grad = surfaces.gradient(quartic, p.detach())
        optimizer.step()
        error = max(error, largest(theta - p.detach()))
    return error


@claim("Eq. 7", "momentum's velocity in a corridor", at_most=1e-12)
def momentum_velocity() -> float:
    _, g = cone_and_gradient()
    moves = enumerate(pairwise(momentum_path()), start=1)
    return max(largest(after - before - flows.momentum_velocity(g, H, BETA, t)) for t, (before, after) in moves)


@claim("Eq. 8", "momentum's position in a corridor", at_most=1e-12)
def momentum_position() -> float:
    _, g = cone_and_gradient()
    path = enumerate(momentum_path())
    return max(largest(theta - flows.momentum_position(START, g, H, BETA, t)) for t, theta in path)


@claim("Eq. 11", "as printed: θ_t = θ_{t−1} + Σ v_i", at_most=1e-12, misprint=True)
def momentum_position_as_printed() -> float:
    _, g = cone_and_gradient()
    moves = enumerate(pairwise(momentum_path()), start=1)
    return max(largest(after - flows.momentum_position(before, g, H, BETA, t)) for t, (before, after) in moves)


def off_the_line(along: float, across: float) -> float:
    """How far momentum leaves the line of steepest descent, from a velocity along and across the gradient."""
    E, g = cone_and_gradient()
    normal = torch.stack([-g[1], g[0]])
    path = flows.momentum(field(E), START, H, BETA, STEPS, along * g + across * normal)
    return largest((torch.stack(list(path)) - START) @ normal)


@claim("Remark A.2", "a velocity along g keeps momentum on the line", at_most=1e-12)
def aligned_velocity() -> float:
    return off_the_line(along=-0.3, across=0.0)


@claim("Remark A.2", "an oblique velocity leaves it by", above=0.1)
def oblique_velocity() -> float:
    return off_the_line(along=0.0, across=0.3)


def sped_up_flow(speeds: Sequence[float]) -> list[Tensor]:
    """θ(0), θ(h), θ(2h) … under θ̇ = −c_n g on [hn, h(n + 1)]."""
    E, _ = cone_and_gradient()
    path = [START]
    for speed in speeds:
        path.append(flow(E, path[-1], [H * speed])[0] if speed > 0 else path[-1])
    return path


def flow_off_momentum(exponent_shift: int) -> float:
    """Eq. 12's flow against Eq. 8's positions."""
    path = sped_up_flow([flows.momentum_speed(n, BETA, exponent_shift) for n in range(STEPS)])
    _, g = cone_and_gradient()
    return max(largest(theta - flows.momentum_position(START, g, H, BETA, n)) for n, theta in enumerate(path))


@claim("Eq. 12", "as printed, c_n has β^n: the flow meets Eq. 8", at_most=1e-10, misprint=True)
def momentum_flow_as_printed() -> float:
    return flow_off_momentum(exponent_shift=0)


@claim("Eq. 12", "corrected, c_n has β^{n+1}: the flow meets Eq. 8", at_most=1e-10)
def momentum_flow() -> float:
    return flow_off_momentum(exponent_shift=1)


@claim("Eq. 13", "θ(nh) = θ((n−1)h) − h(1 − β^n)/(1 − β) g(θ(0)) on that flow", at_most=1e-10)
def momentum_flow_step() -> float:
    path = sped_up_flow([flows.momentum_speed(n, BETA) for n in range(STEPS)])
    _, g = cone_and_gradient()
    moves = enumerate(pairwise(path), start=1)
    return max(largest(after - (before - H * (1 - BETA**n) / (1 - BETA) * g)) for n, (before, after) in moves)


# ----------------------------------------------------------------- A.2: Runge–Kutta 4


def corridor_starts() -> list[tuple[Loss, Tensor]]:
    return [(surfaces.cone(1.0), 6 * THETA), (around_an_ellipse()[0], 4 * THETA)]


@claim("Eq. 14–18", "a step of Runge–Kutta 4 follows the flow in a corridor", at_most=1e-12)
def runge_kutta_in_corridors() -> float:
    ends = [
        flows.rk4_step(field(E), theta, 0.1) - (theta - 0.1 * surfaces.gradient(E, theta))
        for E, theta in corridor_starts()
    ]
    return largest(torch.stack(ends))


@claim(
    "Eq. 18", "as printed, without h: the step is θ − g and follows the flow for h = 0.1", at_most=1e-12, misprint=True
)
def runge_kutta_as_printed() -> float:
    ends = [theta - surfaces.gradient(E, theta) - flow(E, theta, [0.1])[0] for E, theta in corridor_starts()]
    return largest(torch.stack(ends))


@claim("Eq. 14–18", "elsewhere its error in one step is of order 5", at_most=0.4)
def order_of_runge_kutta() -> float:
    return abs(order(lambda h: flows.rk4_step(field(quartic), THETA, h) - flow(quartic, THETA, [h])[0], 0.1) - 5)


# ---------------------------------------------------- A.3: stochastic gradient descent


@claim("Eq. 19–20", "E_σ[θ_m] = θ(mh) + O(h³) for m = 2…6 (which cannot tell its m³): slope in h", above=2.8)
def modified_flow_of_sgd() -> Tensor:
    """The mean over all m! shufflings of an epoch, on random cubic batch losses. Right is a slope of 3, wrong of 2."""
    start = vector(0.3, -0.2)

    def error(h: float) -> Tensor:
        modified = flows.sgd_modified_field([with_graph(E) for E in losses], h)
        end = flows.gradient_flow(modified, start, len(losses) * h, rtol=1e-11, atol=1e-13, max_evaluations=GRADIENTS)
        return epoch_ends(losses, start, h).mean(0) - end

    slopes = []
    for m in range(2, 7):
        losses = cubic_losses(m)
        slopes.append(order(error, 0.02))
    return torch.tensor(slopes).min()


def with_graph(E: Loss) -> flows.Field:
    return lambda theta: surfaces.gradient(E, theta, create_graph=True)


def cubic_losses(m: int) -> list[Loss]:
    generator = torch.Generator().manual_seed(m)

    def cubic() -> Loss:
        a, b = (torch.randn(2, generator=generator, dtype=torch.float64) for _ in range(2))
        A = torch.randn(2, 2, generator=generator, dtype=torch.float64)
        return lambda t: (t @ a) ** 3 / 3 + (t * (t @ (A + A.T))).sum(-1) / 2 + t @ b

    return [cubic() for _ in range(m)]


def epoch_ends(losses: list[Loss], start: Tensor, h: float) -> Tensor:
    """θ_m after an epoch of SGD, for each order of the m batches; shape (m!, 2)."""
    orders = torch.tensor(list(itertools.permutations(range(len(losses)))))
    theta = start.repeat(len(orders), 1)
    for batches in orders.T:
        for i, E in enumerate(losses):
            theta[batches == i] -= h * surfaces.gradient(E, theta[batches == i])
    return theta


@claim("§A.3", "½∇‖g‖² = Hg", at_most=1e-12)
def gradient_of_the_squared_norm() -> float:
    theta = points(20, 0.5, 1.0).requires_grad_()
    squared_norm = surfaces.gradient(quartic, theta, create_graph=True).square().sum()
    (doubled,) = torch.autograd.grad(squared_norm, theta)
    return largest(doubled / 2 - surfaces.hessian_gradient(quartic, theta))


def regularization_in_a_corridor() -> tuple[Tensor, Tensor]:
    """Eq. 20 less its g, where the batch losses have the cone as their mean; and its last term alone."""
    E, theta, h, drawn = surfaces.cone(1.0), points(20, 0.5, 2.0), 0.1, cubic_losses(4)

    def deviation(i: int) -> Loss:
        return lambda t: drawn[i](t) - sum((other(t) for other in drawn), torch.zeros(())) / len(drawn)

    def batch_loss(i: int) -> Loss:
        return lambda t: E(t) + deviation(i)(t)

    modified = flows.sgd_modified_field([with_graph(batch_loss(i)) for i in range(4)], h)
    spread = torch.stack([2 * surfaces.hessian_gradient(deviation(i), theta) for i in range(4)])
    return modified(theta) - surfaces.gradient(E, theta), h / 4 * spread.mean(0)


@claim("§A.3", "in a corridor only (h/4m)Σ∇‖g − g_i‖² remains of Eq. 20's regularization", at_most=1e-12)
def sgd_in_a_corridor() -> float:
    regularization, last_term = regularization_in_a_corridor()
    return largest(regularization - last_term)


@claim("§A.3", "which does not vanish: its largest norm", above=0.01)
def regularization_by_batches() -> Tensor:
    regularization, _ = regularization_in_a_corridor()
    return regularization.norm(dim=-1).max()
