"""Section 2: what a corridor is, and where Hg = 0."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from corridor_exp.ledger.examples import (
    GRADIENTS,
    THETA,
    around_an_ellipse,
    bowl,
    corridors,
    field,
    flow,
    largest,
    linear_piece,
    order,
    others,
    points,
    quartic,
)
from corridor_exp.ledger.rows import claim
from corridor_exp.theory import flows, surfaces

DIMENSIONS = (2, 3, 10, 100)

# ---------------------------------------------------------- Example 2.2: linear pieces


@claim("Example 2.2", "Hg = 0 on a linear piece", at_most=1e-10)
def hg_on_a_linear_piece() -> float:
    return largest(surfaces.hessian_gradient(*linear_piece()))


def gradient_and_velocity() -> tuple[Tensor, Tensor]:
    E, theta = linear_piece()
    return surfaces.gradient(E, theta[0]), flow(E, theta[0], [1.0])[0] - theta[0]


@claim("Example 2.2", "as printed: ∇E equals the flow's velocity v", at_most=1e-10, misprint=True)
def velocity_as_printed() -> float:
    g, v = gradient_and_velocity()
    return largest(g - v)


@claim("Example 2.2", "corrected: ∇E = −v", at_most=1e-10)
def velocity() -> float:
    g, v = gradient_and_velocity()
    return largest(g + v)


# ------------------------------------------------- Examples 2.3 and 2.4: cones, in n dimensions


def hg_on_a_cone(alpha: float, beta: float) -> float:
    E = surfaces.cone(alpha, beta)
    return max(largest(surfaces.hessian_gradient(E, points(20, 0.5, 2.0, n))) for n in DIMENSIONS)


@claim("Example 2.3", "Hg = 0 on the convex cone, in 2, 3, 10 and 100 dimensions", at_most=1e-10)
def hg_on_the_convex_cone() -> float:
    return hg_on_a_cone(1.0, 0.0)


@claim("Example 2.3", "g = αθ/‖θ‖ and H = α(1/‖θ‖ − θθᵀ/‖θ‖³)", at_most=1e-12)
def derivatives_of_a_cone() -> float:
    E, error = surfaces.cone(3.0), 0.0
    for n in DIMENSIONS:
        theta = points(1, 0.5, 2.0, n)[0]
        r = theta.square().sum().sqrt()
        H = 3 * (torch.eye(n, dtype=theta.dtype) / r - theta.outer(theta) / r**3)
        g_error = surfaces.gradient(E, theta) - 3 * theta / r
        error = max(error, largest(g_error), largest(torch.autograd.functional.hessian(E, theta) - H))
    return error


@claim("Example 2.3", "E = 1 on the circle ‖θ‖ = 1/α", at_most=1e-12)
def circle_of_a_cone() -> float:
    return max(largest(surfaces.cone(3.0)(points(20, 1 / 3, 1 / 3, n)) - 1) for n in DIMENSIONS)


@claim("Example 2.4", "Hg = 0 on the concave cone, in 2, 3, 10 and 100 dimensions", at_most=1e-10)
def hg_on_the_concave_cone() -> float:
    return hg_on_a_cone(-1.0, 3.0)


@claim("Example 2.4", "the concave cone falls from β at its apex by α‖θ‖", at_most=1e-12)
def height_of_the_concave_cone() -> float:
    return max(largest(surfaces.cone(-2.0, 3.0)(points(20, 0.5, 0.5, n)) - 2) for n in DIMENSIONS)


# ------------------------------------------- Examples 2.5 and 2.6: ruled and glued surfaces


@claim("Example 2.5", "Hg = 0 on the distance to an ellipse", at_most=1e-10)
def hg_around_an_ellipse() -> float:
    return largest(surfaces.hessian_gradient(*around_an_ellipse()))


@claim("Example 2.5", "E = β + αd at the distance d from the curve: points on its normals", at_most=1e-12)
def height_of_ruled_surfaces() -> float:
    error = 0.0
    for curve, foot, d in (
        (surfaces.ellipse(1.0, 0.7), on_an_ellipse(), 0.3),
        (surfaces.fig1b().curve, on_a_wave(), 0.5),
    ):
        position, tangent = foot
        normal = np.stack([-tangent[1], tangent[0]]) / np.hypot(*tangent)
        for distance in (-d, 0.0, d):
            theta = torch.as_tensor((position + distance * normal).T)
            error = max(error, largest(surfaces.offset_surface(curve, -2.0, 1.0)(theta) - (1 - 2 * distance)))
    return error


def on_an_ellipse() -> tuple[np.ndarray, np.ndarray]:
    """Points of Fig. 1a's ellipse and their tangents, each of shape (2, …)."""
    s = np.linspace(-3.0, 3.0, 25)
    return np.stack([np.cos(s), 0.7 * np.sin(s)]), np.stack([-np.sin(s), 0.7 * np.cos(s)])


def on_a_wave() -> tuple[np.ndarray, np.ndarray]:
    """Points of Fig. 1b's curve, which is straight on the left, and their tangents, each of shape (2, …)."""
    s, k = np.concatenate([np.linspace(-2.0, -1.0, 5), np.linspace(0.2, 2.2, 20)]), np.pi
    wavy = s >= 0
    return (
        np.stack([s, wavy * 0.1 * (1 - np.cos(k * s))]),
        np.stack([np.ones_like(s), wavy * 0.1 * k * np.sin(k * s)]),
    )


@claim("Example 2.5", "the converse fails: the smallest ‖Hg‖ on xy, which is ruled", above=0.4)
def hg_on_the_saddle() -> Tensor:
    return surfaces.hessian_gradient(surfaces.saddle, points(20, 0.5, 2.0)).norm(dim=-1).min()


@claim("Example 2.5", "nor on r f(φ), f = 1 + 0.2 cos 5φ, also ruled: ‖Hg‖ = |f′(f + f″)|/r", at_most=1e-12)
def hg_on_the_wavy_cone() -> float:
    theta = points(20, 0.5, 2.0)
    r, phi = theta.norm(dim=-1), torch.atan2(theta[:, 1], theta[:, 0])
    f, slope, curvature = 1 + 0.2 * torch.cos(5 * phi), -torch.sin(5 * phi), -5 * torch.cos(5 * phi)
    hg = surfaces.hessian_gradient(surfaces.wavy_cone(5, 0.2), theta).norm(dim=-1)
    return largest(hg - (slope * (f + curvature)).abs() / r)


@claim("Example 2.6", "Hg = 0 off the seams", at_most=1e-10)
def hg_on_strips() -> float:
    strips, theta = surfaces.fig1b(), points(400, 0.0, 0.7)
    return largest(surfaces.hessian_gradient(strips, theta[strips.distance_to_seam(theta) > 1e-3]))


@claim("Example 2.6", "E is continuous across the seams", at_most=1e-12)
def continuity_of_strips() -> float:
    strips = surfaces.fig1b()
    seams = torch.tensor(strips.seams, dtype=torch.float64)
    return max(largest(strips.piece(i, s) - strips.piece(i + 1, s)) for i, s in enumerate(seams))


def over_the_straight_part() -> tuple[np.ndarray, Tensor]:
    """Heights above the straight part of Fig. 1b's curve, which are distances from it, and their points."""
    height = np.linspace(-1.0, 1.0, 21)
    return height, torch.as_tensor(np.stack([np.full_like(height, -2.5), height], -1))


@claim("Example 2.6", "the distance to the nearest seam", at_most=1e-12)
def distance_to_seams() -> float:
    strips, (height, theta) = surfaces.fig1b(), over_the_straight_part()
    nearest = np.abs(np.subtract.outer(height, strips.seams)).min(-1)
    return largest(strips.distance_to_seam(theta) - torch.as_tensor(nearest))


@claim("Example 2.6", "E is 0 on the first seam and climbs with each strip's slope", at_most=1e-12)
def height_of_strips() -> float:
    strips, (height, theta) = surfaces.fig1b(), over_the_straight_part()
    ends = np.array([-1.0, *strips.seams, 1.0])
    E = np.concatenate([[0.0], np.cumsum(np.diff(ends) * strips.slopes)])
    return largest(strips(theta) - torch.as_tensor(np.interp(height, ends, E - E[1])))


# ------------------------------------------------------- Example 2.7: no corridor

TIME = 0.7


@claim("Example 2.7", "on ‖θ‖²/2 the flow is θ(t) = θe^{−t}", at_most=1e-9)
def flow_of_a_bowl() -> float:
    end = flows.gradient_flow(field(bowl(1.0, 1.0)), THETA, TIME, rtol=1e-11, atol=1e-13, max_evaluations=GRADIENTS)
    return largest(end - THETA * np.exp(-TIME))


def velocity_on_the_bowl() -> Tensor:
    """dθ(t)/dt by central differences."""
    d = 1e-3
    before, after = flow(bowl(1.0, 1.0), THETA, [TIME - d, TIME + d])
    return (after - before) / (2 * d)


@claim("Example 2.7", "as printed: it is travelled at θ̇ = θe^{−t}", at_most=1e-6, misprint=True)
def velocity_on_the_bowl_as_printed() -> float:
    return largest(velocity_on_the_bowl() - THETA * np.exp(-TIME))


@claim("Example 2.7", "corrected: it is travelled at θ̇ = −θe^{−t}", at_most=1e-6)
def velocity_on_the_bowl_corrected() -> float:
    return largest(velocity_on_the_bowl() + THETA * np.exp(-TIME))


@claim("Example 2.7", "there Hg = θ, which vanishes only at 0", at_most=1e-12)
def hg_on_the_bowl() -> float:
    theta = points(20, 0.5, 2.0)
    return largest(surfaces.hessian_gradient(bowl(1.0, 1.0), theta) - theta)


# --------------------------------------------------- Lemmas 2.8 and 2.9 to Theorem 2.11


@claim("Lemma 2.8", "dg/dt → −Hg along the flow: central differences are of order 2", at_most=0.1)
def rate_of_the_gradient() -> float:
    def error(d: float) -> Tensor:
        before, now, after = flow(quartic, THETA, [0.1 - d, 0.1, 0.1 + d])
        rate = (surfaces.gradient(quartic, after) - surfaces.gradient(quartic, before)) / (2 * d)
        return rate + surfaces.hessian_gradient(quartic, now)

    return abs(order(error, 0.02) - 2)


def lines() -> Iterator[tuple[surfaces.Loss, Tensor, float]]:
    """Corridors, points, and how long the flow stays inside from there."""
    for E, theta in corridors().values():
        for t in (0.05, 0.1, 0.3):
            yield E, theta, t


@claim("Lemma 2.9", "g is constant on the line of steepest descent", at_most=1e-12)
def gradient_on_the_line() -> float:
    def change(E: surfaces.Loss, theta: Tensor, t: float) -> float:
        g = surfaces.gradient(E, theta)
        return largest(surfaces.gradient(E, theta - t * g) - g)

    return max(change(*line) for line in lines())


def flow_off_the_line(from_the_end: bool) -> float:
    """The flow of `theory` against θ − tg, where θ is the start or, as printed, the end."""
    worst = 0.0
    for E, theta in corridors().values():
        start = theta[0]
        end = flows.gradient_flow(field(E), start, 0.3, max_evaluations=GRADIENTS)
        foot = end if from_the_end else start
        worst = max(worst, largest(end - (foot - 0.3 * surfaces.gradient(E, foot))))
    return worst


@claim("Lemma 2.9", "as printed, θ for θ(0): θ(t) = θ − tg(θ) at θ = θ(t)", at_most=1e-10, misprint=True)
def flow_in_a_corridor_as_printed() -> float:
    return flow_off_the_line(from_the_end=True)


@claim("Lemma 2.9", "corrected: θ(t) = θ(0) − tg(θ(0))", at_most=1e-10)
def flow_in_a_corridor() -> float:
    return flow_off_the_line(from_the_end=False)


@claim("Proposition 2.10", "E(θ − tg) = E − t‖g‖²", at_most=1e-12)
def loss_on_the_line() -> float:
    def excess(E: surfaces.Loss, theta: Tensor, t: float) -> float:
        g = surfaces.gradient(E, theta)
        return largest(E(theta - t * g) - surfaces.loss_on_the_line(E(theta), g.square().sum(-1), t))

    return max(excess(*line) for line in lines())


@claim("Theorem 2.11", "Hg = 0 ⇔ straight flow ⇔ ‖g‖ constant: exceptions in a zoo of both", at_most=0)
def characterization() -> float:
    exceptions = 0
    for zoo, expected in ((corridors(), True), (others(), False)):
        for E, theta in zoo.values():
            hg = largest(surfaces.hessian_gradient(E, theta))
            g = surfaces.gradient(E, theta)
            ends = torch.stack([flow(E, start, [0.3])[0] for start in theta[:4]])
            bend = largest(ends - (theta - 0.3 * g)[:4])
            norms = g.norm(dim=-1)
            exceptions += {hg < 1e-8, bend < 1e-8, (norms.max() - norms.min()).item() < 1e-8} != {expected}
    return exceptions
