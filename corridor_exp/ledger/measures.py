"""Ours, not the paper's: what the measures of a corridor are on known surfaces, all at CLR's step h = E/‖g‖²."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from corridor_exp.ledger.examples import bowl, largest, points
from corridor_exp.ledger.rows import claim
from corridor_exp.theory import measures, stepsizes, surfaces
from corridor_exp.theory.surfaces import Loss

POWERS = (1.0, 1.5, 2.0, 4.0)
Measure = Callable[[Loss, Tensor], Tensor]


def power(p: float) -> Loss:
    return lambda theta: theta.norm(dim=-1) ** p


def corridor_index(E: Loss, theta: Tensor) -> Tensor:
    return measures.corridor_index(E(theta), [surfaces.gradient(E, theta)], [surfaces.hessian_gradient(E, theta)])


def on_the_step(share: float, E: Loss, theta: Tensor) -> tuple[Tensor, Tensor]:
    """g at θ, and the point where a share of CLR's step is done."""
    g = surfaces.gradient(E, theta)
    (point,) = measures.after(share, [theta], [g], stepsizes.clr(E(theta), g.square().sum()))
    return g, point


def secant_corridor_index(E: Loss, theta: Tensor) -> Tensor:
    g, midpoint = on_the_step(measures.MIDPOINT, E, theta)
    return measures.secant_corridor_index([g], [surfaces.gradient(E, midpoint)])


def gradient_alignment(E: Loss, theta: Tensor) -> Tensor:
    g, midpoint = on_the_step(measures.MIDPOINT, E, theta)
    return measures.gradient_alignment([g], [surfaces.gradient(E, midpoint)])


def decrease_ratio(E: Loss, theta: Tensor) -> Tensor:
    return measures.decrease_ratio(E(theta), E(on_the_step(1.0, E, theta)[1]))


def on_powers(measure: Measure, expected: Callable[[float], float]) -> float:
    """How far a measure of ‖θ‖^p is from what it should be; p = 1 is a cone: CLR's step ends at its apex."""
    return max(largest(measure(power(p), theta) - expected(p)) for p in POWERS for theta in points(10, 0.5, 2.0))


def on_bowls(measure: Measure) -> Tensor:
    """A measure on convex quadratics with minimum 0, of many shapes."""
    curvatures = points(20, 1.0, 1.0, dimension=3).abs() + 1e-3
    shapes = [bowl(*row.tolist()) for row in curvatures]
    return torch.stack([measure(E, theta) for E in shapes for theta in points(10, 0.1, 3.0, dimension=3)])


@claim("Corridor index", "E‖Hg‖/‖g‖³ of ‖θ‖^p is (p − 1)/p", at_most=1e-12)
def index_of_powers() -> float:
    return on_powers(corridor_index, lambda p: (p - 1) / p)


@claim("Corridor index", "it is at least ½ on convex quadratics with minimum 0: what lacks", at_most=1e-12)
def index_of_bowls() -> Tensor:
    return (0.5 - on_bowls(corridor_index)).clamp(min=0).max()


@claim("Secant corridor index", "at the midpoint, of ‖θ‖^p: 2(1 − (1 − 1/2p)^(p−1)), 0 for a cone", at_most=1e-12)
def secant_of_powers() -> float:
    return on_powers(secant_corridor_index, lambda p: 2 * (1 - (1 - 1 / (2 * p)) ** (p - 1)))


@claim("Secant corridor index", "it is the corridor index on convex quadratics", at_most=1e-10)
def secant_of_bowls() -> float:
    return largest(on_bowls(secant_corridor_index) - on_bowls(corridor_index))


@claim("Gradient alignment", "at the midpoint, of ‖θ‖^p: (1 − 1/2p)^(p−1), 1 for a cone", at_most=1e-12)
def alignment_of_powers() -> float:
    return on_powers(gradient_alignment, lambda p: (1 - 1 / (2 * p)) ** (p - 1))


@claim("Gradient alignment", "it is the decrease ratio on convex quadratics: the midpoint rule is exact", at_most=1e-12)
def alignment_of_bowls() -> float:
    return largest(on_bowls(gradient_alignment) - on_bowls(decrease_ratio))


@claim("Decrease ratio", "1 − E(θ − hg)/E of ‖θ‖^p is 1 − (1 − 1/p)^p", at_most=1e-12)
def decrease_of_powers() -> float:
    return on_powers(decrease_ratio, lambda p: 1 - (1 - 1 / p) ** p)


@claim("Decrease ratio", "it is at most ¾ on convex quadratics with minimum 0: what exceeds", at_most=1e-12)
def decrease_of_bowls() -> Tensor:
    return (on_bowls(decrease_ratio) - 0.75).clamp(min=0).max()
