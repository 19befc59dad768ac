"""Section 3: gradient descent steps on the gradient flow exactly in corridors."""

from __future__ import annotations

import cmath
import math
from itertools import combinations

import torch
from torch import Tensor

from corridor_exp.ledger.examples import (
    GRADIENTS,
    THETA,
    around_an_ellipse,
    field,
    flow,
    largest,
    order,
    quartic,
    vector,
)
from corridor_exp.ledger.rows import claim
from corridor_exp.theory import flows, surfaces
from corridor_exp.theory.surfaces import Loss


def step_of_the_flow(h: float) -> Tensor:
    return flow(quartic, THETA, [h])[0]


# ------------------------------------------------------------------ the gradient flow


@claim("Gradient flow", "the flow of `theory` is scipy's at a tolerance of 1e-9", at_most=1e-8)
def gradient_flow() -> float:
    end = flows.gradient_flow(field(quartic), THETA, 1.0, rtol=1e-9, atol=1e-11, max_evaluations=GRADIENTS)
    return largest(end - step_of_the_flow(1.0))


def one_step(h: float) -> tuple[Tensor, Tensor]:
    """The error of one Dormand–Prince step, and what the step says of its error."""
    k1 = -surfaces.gradient(quartic, THETA)
    end, _, estimate = flows.dormand_prince_step(field(quartic), THETA, h, k1)
    return end - step_of_the_flow(h), estimate


@claim("Gradient flow", "one step of its Dormand–Prince pair errs with order 6: slope in h", above=5.8)
def order_of_a_flow_step() -> float:
    return order(lambda h: one_step(h)[0], 0.05)


@claim("Gradient flow", "on g = θ that step is Taylor's polynomial of e^{−h} to order 5, and h⁶/600", at_most=1e-14)
def polynomial_of_a_flow_step() -> float:
    """Every coefficient of the pair has a part in it. 1/600 is the method's own (Hairer, Nørsett & Wanner, II.5)."""
    h = 0.5
    end, _, _ = flows.dormand_prince_step(lambda theta: theta, THETA, h, -THETA)
    return largest(end - THETA * (sum((-h) ** k / math.factorial(k) for k in range(6)) + h**6 / 600))


@claim("Gradient flow", "the error that the step estimates is of order 5", at_most=0.2)
def order_of_the_estimate() -> float:
    return abs(order(lambda h: one_step(h)[1], 0.1) - 5)


# ----------------------------------------------------------------------- Theorem 3.1


@claim("Theorem 3.1 ⇒", "in corridors 50 steps of gradient descent lie on the flow", at_most=1e-10)
def descent_in_corridors() -> float:
    error = 0.0
    for E in (surfaces.cone(1.0), around_an_ellipse()[0]):
        for h in (0.002, 0.01, 0.03):
            descent = torch.stack(list(flows.gradient_descent(field(E), 4 * THETA, h, 50)))
            error = max(error, largest(descent - flow(E, 4 * THETA, [n * h for n in range(1, 51)])))
    return error


@claim("Theorem 3.1 ⇐", "for all h: 2(θ_GF(h) − θ_GD(h))/h² → Hg with order 1", at_most=0.1)
def drift_of_descent() -> float:
    hg = surfaces.hessian_gradient(quartic, THETA)

    def error(h: float) -> Tensor:
        (descended,) = flows.gradient_descent(field(quartic), THETA, h, 1)
        return 2 / h**2 * (step_of_the_flow(h) - descended - flows.descent_drift(hg, h))

    return abs(order(error, 2e-2) - 1)


@claim("Theorem 3.1 ⇐", "as printed, θ(h) = θ − hθ′ + O(h²): the error is of order 2", at_most=0.1, misprint=True)
def expansion_as_printed() -> float:
    return abs(order(lambda h: step_of_the_flow(h) - (THETA + h * surfaces.gradient(quartic, THETA)), 1e-2) - 2)


@claim("Theorem 3.1 ⇐", "corrected, θ(h) = θ + hθ′ + O(h²): the error is of order 2", at_most=0.1)
def expansion() -> float:
    return abs(order(lambda h: step_of_the_flow(h) - (THETA - h * surfaces.gradient(quartic, THETA)), 1e-2) - 2)


# For one fixed h the converse fails. On the line let the gradient at time t of the flow be g(t) = 1 + 0.02 Re e^{zt},
# where e^z = 1 + z: over any unit of time its mean is its value at the start.


def exponent() -> complex:
    z = 2.08884 + 7.46149j
    for _ in range(5):
        z -= (cmath.exp(z) - 1 - z) / (cmath.exp(z) - 1)
    return z


@claim("Theorem 3.1 ⇐", "for one h it fails: off a corridor descent at h = 1 is on the flow", at_most=1e-14)
def descent_for_one_step_size() -> float:
    z = exponent()

    def travelled(t: float) -> float:
        return t + 0.02 * ((cmath.exp(z * t) - 1) / z).real

    times = [i / 100 for i in range(100)]
    return max(abs(travelled(t + 1) - travelled(t) - (1 + 0.02 * cmath.exp(z * t).real)) for t in times)


@claim("Theorem 3.1 ⇐", "of that flow: the largest |Hg|", above=0.5)
def hg_for_one_step_size() -> float:
    z = exponent()
    return max(abs(0.02 * (z * cmath.exp(z * i / 100)).real) for i in range(100))


# -------------------------------------------- stochastic descent: g_B = g + ε_B in a corridor

NOISE = [vector(x, y) for x, y in ((0.3, 0.1), (-0.2, 0.4), (0.1, -0.5), (0.4, 0.2), (-0.5, 0.1), (-0.1, -0.3))]


def batch_loss(batch: tuple[int, ...]) -> Loss:
    """The mean over a batch of losses whose mean over all six is the cone; ε_B is that of their `NOISE`."""
    noise = torch.stack([NOISE[i] for i in batch]).mean(0)
    return lambda theta: surfaces.cone(1.0)(theta) + theta @ noise


def drift_of_a_batch(batch: tuple[int, ...], h: float, end: Tensor) -> Tensor:
    """How far a step of SGD ends from the flow of the full loss, which is at `end` after h."""
    (theta,) = flows.gradient_descent(field(batch_loss(batch)), THETA, h, 1)
    return theta - end


@claim("§3", "in a corridor a step of SGD ends −hε_B from the flow, where g_B = g + ε_B", at_most=1e-11)
def drift_of_stochastic_descent() -> float:
    h = 0.1
    end = flow(surfaces.cone(1.0), THETA, [h])[0]
    return max(largest(drift_of_a_batch((i,), h, end) + h * NOISE[i]) for i in range(6))


@claim("§3", "its mean square over batches of b of n is h²(n − b)/(b(n − 1)) times that of ε", at_most=1e-11)
def drift_by_batch_size() -> float:
    spread, error = torch.stack(NOISE).square().sum(-1).mean(), 0.0
    for h in (0.05, 0.1):
        end = flow(surfaces.cone(1.0), THETA, [h])[0]
        for b in range(1, 7):
            drifts = torch.stack([drift_of_a_batch(batch, h, end) for batch in combinations(range(6), b)])
            error = max(error, largest(drifts.square().sum(-1).mean() - h**2 * (6 - b) / (b * 5) * spread))
    return error
