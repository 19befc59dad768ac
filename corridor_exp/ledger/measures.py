"""Ours, not the paper's: what the measures of a corridor are on known surfaces, all at CLR's step h = E/‖g‖²."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from corridor_exp.ledger.examples import THETA, bowl, largest, points, quartic
from corridor_exp.ledger.rows import claim
from corridor_exp.theory import stepsizes, surfaces
from corridor_exp.theory.surfaces import Loss

POWERS = (1.0, 1.5, 2.0, 4.0)


def power(p: float) -> Loss:
    return lambda theta: theta.norm(dim=-1) ** p


def corridor_index(E: Loss, theta: Tensor) -> Tensor:
    """E‖Hg‖/‖g‖³ = h‖Hg‖/‖g‖."""
    g_norm = surfaces.gradient(E, theta).norm(dim=-1)
    h = stepsizes.clr(E(theta), g_norm.square())
    return h * surfaces.hessian_gradient(E, theta).norm(dim=-1) / g_norm


def decrease_ratio(E: Loss, theta: Tensor) -> Tensor:
    """1 − E(θ − hg)/E."""
    g = surfaces.gradient(E, theta)
    h = stepsizes.clr(E(theta), g.square().sum(-1))
    return 1 - E(theta - h.unsqueeze(-1) * g) / E(theta)


def over_bowls(measure: Callable[[Loss, Tensor], Tensor]) -> Tensor:
    """A measure on convex quadratics with minimum 0, of many shapes."""
    curvatures = points(50, 1.0, 1.0, dimension=3).abs() + 1e-3
    return torch.cat([measure(bowl(*row.tolist()), points(20, 0.1, 3.0, dimension=3)) for row in curvatures])


@claim("Corridor index", "E‖Hg‖/‖g‖³ of ‖θ‖^p is (p − 1)/p", at_most=1e-12)
def index_of_powers() -> float:
    return max(largest(corridor_index(power(p), points(20, 0.5, 2.0)) - (p - 1) / p) for p in POWERS)


@claim("Corridor index", "it is at least ½ on convex quadratics with minimum 0: what lacks", at_most=1e-12)
def index_of_bowls() -> Tensor:
    return (0.5 - over_bowls(corridor_index)).clamp(min=0).max()


@claim("Decrease ratio", "1 − E(θ − hg)/E of ‖θ‖^p is 1 − (1 − 1/p)^p", at_most=1e-12)
def decrease_of_powers() -> float:
    return max(largest(decrease_ratio(power(p), points(20, 0.5, 2.0)) - (1 - (1 - 1 / p) ** p)) for p in POWERS)


@claim("Decrease ratio", "it is at most ¾ on convex quadratics with minimum 0: what exceeds", at_most=1e-12)
def decrease_of_bowls() -> Tensor:
    return (over_bowls(decrease_ratio) - 0.75).clamp(min=0).max()


@claim("Contraction", "E(θ − hg)/E = ∫₀¹⟨g − g(θ − thg), g⟩/‖g‖² dt", at_most=1e-12)
def contraction() -> float:
    """By Gauss and Legendre's rule, which is exact on the quartic."""
    g = surfaces.gradient(quartic, THETA)
    h = stepsizes.clr(quartic(THETA), g.square().sum())
    nodes, weights = np.polynomial.legendre.leggauss(4)
    times = torch.as_tensor((nodes + 1) / 2)
    changes = g - surfaces.gradient(quartic, THETA - times.unsqueeze(-1) * h * g)
    integral = torch.as_tensor(weights / 2) @ (changes @ g) / g.square().sum()
    return largest(quartic(THETA - h * g) / quartic(THETA) - integral)
