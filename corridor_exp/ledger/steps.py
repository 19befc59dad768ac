"""Section 4: the step size of corridors, Polyak's, and those of the methods that the paper cites."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from corridor_exp import optim
from corridor_exp.ledger.examples import THETA, around_an_ellipse, bowl, largest, points, quartic, vector
from corridor_exp.ledger.rows import claim
from corridor_exp.theory import stepsizes, surfaces, vectors
from corridor_exp.theory.surfaces import Loss

START = points(1, 2.0, 2.0, dimension=7)[0]
GROUND = vector(0.5, -1.0, 2.0)  # the slope of a linear piece


def walk(
    make: Callable[[list[Tensor]], optim.Descent], losses: Iterable[Loss], theta: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """θ and h of each step of an optimizer, one step a loss. θ lies in two tensors, as a network's in many."""
    sizes = [1, len(theta) - 1]
    parts: list[Tensor] = [nn.Parameter(part.clone()) for part in theta.split(sizes)]
    optimizer = make(parts)
    for E in losses:
        here = torch.cat([p.detach() for p in parts])
        for p, g in zip(parts, surfaces.gradient(E, here).split(sizes), strict=True):
            p.grad = g.clone()
        optimizer.step(loss=E(here))
        yield torch.cat([p.detach() for p in parts]), optimizer.param_groups[0]["lr"]


# --------------------------------------------------------- Eq. 2 and 3: the corridor step


@claim("Eq. 2–3", "E(θ − hg) = 0 for h = E/‖g‖², in corridors that reach 0", at_most=1e-12)
def corridor_step() -> float:
    error = 0.0
    cones = [(surfaces.cone(alpha), THETA) for alpha in (0.3, 1.0, 5.0)]
    for E, theta in (*cones, (around_an_ellipse()[0], 3 * THETA)):
        g = surfaces.gradient(E, theta)
        error = max(error, largest(E(theta - stepsizes.clr(E(theta), g.square().sum()) * g)))
    return error


@claim("Eq. 3", "one step of CLR reaches E = 0 in a corridor, over all tensors of θ together", at_most=1e-12)
def corridor_optimizer() -> float:
    ((theta, _),) = walk(optim.CLR, [surfaces.cone(3.0)], START)
    return largest(surfaces.cone(3.0)(theta))


@claim("Eq. 2, momentum", "with θ′ = θ + βv − hg, E + ⟨g, θ′ − θ⟩ = 0: the foot of θ + βv on it", at_most=1e-12)
def corridor_step_with_momentum() -> float:
    """Linear pieces in turn, so that v is not along g. Where θ + βv is past E = 0 already, h = 0. (Ours.)"""
    slopes = [GROUND, vector(1.0, 1.0, -0.5), vector(-1.5, 0.3, 1.0), vector(0.2, -2.0, 0.1)] * 2
    pieces = [surfaces.linear(slope, 2.0) for slope in slopes]
    before, velocity, error, moved = vector(1.0, 2.0, 3.0), torch.zeros(3, dtype=torch.float64), 0.0, 0
    for slope, E, (theta, h) in zip(
        slopes, pieces, walk(partial(optim.CLRMomentum, momentum=0.6), pieces, before), strict=True
    ):
        ahead = before + 0.6 * velocity
        plane = slope / slope.norm()
        foot = ahead - max(0.0, plane @ ahead + 2.0 / slope.norm()) * plane
        error = max(error, largest(theta - foot), largest(E(theta).clamp(min=0)))
        velocity, before, moved = theta - before, theta, moved + int(h > 0)
    return error if 0 < moved < len(slopes) else math.inf


# ------------------------------------------------------------------- §4.1: Polyak's step


@claim("§4.1", "Polyak's step (E − E*)/‖g‖² reaches E* in a corridor, for E* = −2, 0 and 0.5", at_most=1e-12)
def polyak() -> float:
    error = 0.0
    for minimum in (-2.0, 0.0, 0.5):
        E = surfaces.cone(3.0, minimum)
        ((theta, _),) = walk(partial(optim.Polyak, f_star=minimum), [E], START)
        error = max(error, largest(E(theta) - minimum))
    return error


@claim("§4.1", "where E is below E*, which then is wrong, the step is 0", at_most=0)
def polyak_below_the_bound() -> float:
    E = surfaces.cone(3.0)
    ((theta, _),) = walk(partial(optim.Polyak, f_star=2 * E(START).item()), [E], START)
    return largest(theta - START)


@claim("§4.1", "Hazan and Kakade's E/(2‖g‖²) halves E in each step of a corridor", at_most=1e-12)
def hazan_kakade() -> float:
    E = surfaces.cone(3.0)
    path = walk(optim.HazanKakade, [E] * 8, START)
    return max(largest(E(theta) - E(START) / 2**n) for n, (theta, _) in enumerate(path, start=1))


@claim("§4.1", "CLR with scale s leaves (1 − s)E in each step of a corridor", at_most=1e-12)
def scaled_corridor_step() -> float:
    E = surfaces.cone(3.0)
    path = walk(partial(optim.CLR, scale=0.25), [E] * 8, START)
    return max(largest(E(theta) - 0.75**n * E(START)) for n, (theta, _) in enumerate(path, start=1))


@claim(
    "§4.1", "SPS, [21], h = min{(E − E*)/(c‖g‖²), γ}: on a linear piece E falls by (E − E*)/c or γ‖g‖²", at_most=1e-12
)
def stochastic_polyak() -> float:
    E, start, error = surfaces.linear(GROUND, 2.0), vector(1.0, 2.0, 3.0), 0.0
    gap, norm_sq = E(start) - 0.5, GROUND.square().sum()
    for c, cap, fall in ((2.0, None, gap / 2), (0.5, None, 2 * gap), (2.0, 0.1, 0.1 * norm_sq)):
        ((theta, _),) = walk(partial(optim.SPSMax, c=c, step_cap=cap, f_star=0.5), [E], start)
        error = max(error, largest(E(theta) - (E(start) - fall)))
    return error


@claim(
    "§4.1",
    "as printed: the PL condition is that the step is finite (θ⁴: then within a factor of 10)",
    at_most=10,
    misprint=True,
)
def finite_step() -> float:
    """θ⁴ has a finite step wherever θ ≠ 0 and no PL constant: its step has no bound."""
    theta = torch.logspace(-4, 0, 5, dtype=torch.float64)
    h = stepsizes.clr(theta**4, (4 * theta**3) ** 2)
    return (h.max() / h.min()).item()


@claim("§4.1", "corrected: PL with the constant μ bounds it by 1/(2μ), which it reaches", at_most=1e-12)
def bounded_step() -> float:
    E = bowl(0.5, 2.0)
    theta = torch.cat([points(200, 1e-4, 10.0), vector(3.0, 0.0)[None]])
    h = stepsizes.clr(E(theta), surfaces.gradient(E, theta).square().sum(-1))
    return abs(h.max().item() - 1 / (2 * 0.5))


# ------------------------------------------------- steps of the methods that the paper cites


@claim("§4.1", "DecSPS, [25]: h_k is the least of E_j/‖g_j‖², j ≤ k, and c₀h₋₁, over c₀√(k + 1)", at_most=1e-12)
def decreasing_polyak() -> float:
    """The recursion, unrolled; the losses differ, so that either may be the least."""
    losses: list[Loss] = [quartic, surfaces.cone(0.4), bowl(0.5, 3.0), surfaces.cone(2.0, 0.1), quartic, bowl(9.0, 1.0)]
    theta, least, error, new = THETA, 0.8 * 2.0, 0.0, 0
    path = walk(partial(optim.DecSPS, c=0.8, initial_step=2.0), losses, theta)
    for k, (E, (after, h)) in enumerate(zip(losses, path, strict=True)):
        free = (E(theta) / surfaces.gradient(E, theta).square().sum()).item()
        new += free < least
        least = min(least, free)
        error, theta = max(error, largest(h - least / (0.8 * math.sqrt(k + 1)))), after
    return error if 0 < new < len(losses) else math.inf


@claim("§5", "DAL, [30], h = 2/(‖Hg‖/‖g‖)^p: along an eigenvector: θ′ = (1 − 2λ^{1−p})θ", at_most=1e-12)
def drift_adjusted() -> float:
    """At p = 1 the edge of stability: θ′ = −θ."""
    E, start, error = bowl(0.5, 3.0), vector(0.0, 2.0), 0.0
    g, hg = surfaces.gradient(E, start), surfaces.hessian_gradient(E, start)
    for power in (1.0, 2.0):

        def make(p: list[Tensor], power: float = power) -> optim.DAL:
            dal = optim.DAL(p, power=power, step_cap=None)
            dal.ratio = vectors.norm(list(hg)) / vectors.norm(list(g))
            return dal

        ((theta, _),) = walk(make, [E], start)
        error = max(error, largest(theta - (1 - 2 * 3 ** (1 - power)) * start))
    return error
