"""What the rows are computed on: points, corridors, other surfaces, and a gradient flow that is not `theory`'s."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from corridor_exp.theory import surfaces
from corridor_exp.theory.surfaces import Loss

THETA = torch.tensor([0.9, 0.5], dtype=torch.float64)
GRADIENTS = 2000  # that one flow may take: seven times what it needs on the surfaces below


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def points(count: int, low: float, high: float, dimension: int = 2) -> Tensor:
    """Points between two radii, in all directions; shape (count, dimension)."""
    generator = torch.Generator().manual_seed(0)
    radius = low + (high - low) * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    direction = torch.randn(count, dimension, generator=generator, dtype=torch.float64)
    return radius * direction / direction.norm(dim=-1, keepdim=True)


def field(E: Loss) -> Callable[[Tensor], Tensor]:
    return lambda theta: surfaces.gradient(E, theta)


def largest(t: Tensor) -> float:
    """The largest magnitude. A NaN counts as infinite: Python's own `max` would pass over it."""
    return t.abs().nan_to_num(nan=math.inf).max().item()


def order(error: Callable[[float], Tensor], h: float) -> float:
    """p where ‖error(h)‖ falls like h^p, from h and h/2."""
    return math.log2((error(h).norm() / error(h / 2).norm()).item())


def flow(E: Loss, theta: Tensor, times: Sequence[float]) -> Tensor:
    """Points of the gradient flow at rising times, by scipy's DOP853: independent of `theory.flows`.

    Raises `ArithmeticError` where the flow ends before its time, or takes too many gradients.
    """
    taken = 0

    def minus_g(_: float, point: np.ndarray) -> np.ndarray:
        nonlocal taken
        taken += 1
        g = surfaces.gradient(E, torch.as_tensor(point)).numpy()
        if taken > GRADIENTS or not np.isfinite(g).all():  # scipy itself would go on for ever
            raise ArithmeticError(f"the gradient flow met {'no finite gradient' if taken <= GRADIENTS else 'no end'}")
        return -g

    path = solve_ivp(minus_g, (0, times[-1]), theta.numpy(), method="DOP853", t_eval=times, rtol=1e-12, atol=1e-13)
    if not path.success:
        raise ArithmeticError(path.message)
    return torch.as_tensor(path.y.T)


def quartic(theta: Tensor) -> Tensor:
    """A smooth loss that is no corridor anywhere, with minimum 0: Σ θ⁴/4 + θ₁θ₂ + ‖θ‖²."""
    return theta.pow(4).sum(-1) / 4 + theta[..., 0] * theta[..., 1] + theta.square().sum(-1)


def bowl(*curvatures: float) -> Loss:
    """½ Σ λ_i θ_i²."""
    return surfaces.quadratic(torch.diag(vector(*curvatures)), torch.zeros(len(curvatures), dtype=torch.float64))


def linear_piece() -> tuple[Loss, Tensor]:
    return surfaces.linear(vector(0.6, -0.8), 3.0), points(20, 0.0, 1.0)


def around_an_ellipse() -> tuple[Loss, Tensor]:
    return surfaces.offset_surface(surfaces.ellipse(2.0, 1.5), -1.0), points(20, 2.5, 4.0)


def corridors() -> dict[str, tuple[Loss, Tensor]]:
    """Corridors, each with points from which a flow of length 0.3 stays inside."""
    return {
        "linear piece": linear_piece(),
        "convex cone": (surfaces.cone(1.0), points(20, 0.5, 2.0)),
        "steep cone": (surfaces.cone(3.0), points(20, 1.0, 2.0)),
        "concave cone": (surfaces.cone(-1.0, 3.0), points(20, 0.5, 2.0)),
        "cone in five dimensions": (surfaces.cone(1.0), points(20, 0.5, 2.0, dimension=5)),
        "distance to an ellipse": around_an_ellipse(),
        "strip beside a wave": (surfaces.offset_surface(surfaces.fig1b().curve), points(20, 0.0, 0.3)),
    }


def others() -> dict[str, tuple[Loss, Tensor]]:
    A = torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=torch.float64)
    return {
        "quadratic": (surfaces.quadratic(A, torch.zeros(2, dtype=torch.float64)), points(20, 0.5, 2.0)),
        "saddle": (surfaces.saddle, points(20, 0.5, 2.0)),
        "wavy cone": (surfaces.wavy_cone(), points(20, 0.5, 2.0)),
        "quartic": (quartic, points(20, 0.5, 1.0)),
    }
