"""Loss surfaces over the plane: the paper's corridors, what they are glued of, and their counter-examples.

A corridor is a region of constant ‖∇E‖, as Hg = ½∇‖g‖². So every corridor of the plane is E = β ± α·dist(θ, Γ) near
some curve or point Γ: a cone where Γ is a point, a linear piece where it is a line, a ruled surface in general.

θ has shape (2,), or (…, 2) for many points; E has the shape without the last axis. All are twice differentiable by
autograd away from their seams.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Loss = Callable[[Tensor], Tensor]


def gradient(E: Loss, theta: Tensor, create_graph: bool = False) -> Tensor:
    """g(θ), at one point or at many."""
    point = theta if theta.requires_grad and create_graph else theta.detach().requires_grad_()
    with torch.enable_grad():
        (g,) = torch.autograd.grad(E(point).sum(), point, create_graph=create_graph)
    return g


def hessian_gradient(E: Loss, theta: Tensor) -> Tensor:
    """H(θ)g(θ), at one point or at many: the gradient of ⟨g, v⟩ at the constant v = g."""
    point = theta.detach().requires_grad_()
    with torch.enable_grad():
        g = gradient(E, point, create_graph=True)
        if not g.requires_grad:
            return torch.zeros_like(theta)
        (hg,) = torch.autograd.grad(g, point, grad_outputs=g.detach(), materialize_grads=True)
    return hg


def loss_on_the_line(loss: Tensor, grad_norm_sq: Tensor, t: Tensor | float) -> Tensor:
    """Proposition 2.10: E(θ − tg) = E(θ) − t‖g‖² inside a corridor."""
    return loss - t * grad_norm_sq


# ------------------------------------------------------------------------- corridors


def linear(slope: Tensor, offset: float = 0.0) -> Loss:
    """Example 2.2: a linear piece, E = ⟨slope, θ⟩ + offset."""
    return lambda theta: theta @ slope + offset


def cone(alpha: float = 1.0, beta: float = 0.0) -> Loss:
    """Examples 2.3 and 2.4: E = β + α‖θ‖, convex for α > 0 and concave for α < 0. Not differentiable at 0."""
    return lambda theta: beta + alpha * theta.norm(dim=-1)


@dataclass(frozen=True)
class Curve:
    """A plane curve s ↦ γ(s) on [first, last], with its first two derivatives; each takes (…) to (…, 2)."""

    position: Callable[[Tensor], Tensor]
    velocity: Callable[[Tensor], Tensor]
    acceleration: Callable[[Tensor], Tensor]
    first: float
    last: float


def ellipse(a: float, b: float) -> Curve:
    """γ(s) = (a cos s, b sin s). Its smallest radius of curvature is min(a²/b, b²/a)."""

    def point(s: Tensor, x: float, y: float, shift: float) -> Tensor:
        return torch.stack([x * torch.cos(s + shift), y * torch.sin(s + shift)], -1)

    quarter = math.pi / 2
    return Curve(
        lambda s: point(s, a, b, 0.0),
        lambda s: point(s, a, b, quarter),
        lambda s: point(s, a, b, 2 * quarter),
        -math.pi,
        math.pi,
    )


def wave(amplitude: float, wavelength: float, reach: float = 4.0) -> Curve:
    """γ(s) = (s, amplitude·(1 − cos(2πs/wavelength))) for s ≥ 0, and the straight line y = 0 for s < 0."""
    k = 2 * math.pi / wavelength

    def graph(s: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([x, torch.where(s >= 0, y, torch.zeros_like(y))], -1)

    return Curve(
        lambda s: graph(s, s, amplitude * (1 - torch.cos(k * s))),
        lambda s: graph(s, torch.ones_like(s), amplitude * k * torch.sin(k * s)),
        lambda s: graph(s, torch.zeros_like(s), amplitude * k**2 * torch.cos(k * s)),
        -reach,
        reach,
    )


def signed_distance(curve: Curve, theta: Tensor, grid: int = 2001, iterations: int = 8) -> Tensor:
    """dist(θ, Γ), positive to the left of the curve's direction and negative to its right.

    Smooth where θ is nearer to Γ than its radius of curvature and than to any other part of it. The foot point is
    found on a grid and by Newton's method, without gradient; one more Newton step with gradient then makes the
    first two derivatives exact, by the implicit function theorem.
    """
    fixed = theta.detach()
    s_grid = torch.linspace(curve.first, curve.last, grid, dtype=theta.dtype)
    with torch.no_grad():
        nearest = (fixed.unsqueeze(-2) - curve.position(s_grid)).square().sum(-1).argmin(-1)
        s = s_grid[nearest]
        for _ in range(iterations):
            s = _newton_step(curve, fixed, s)
    s = _newton_step(curve, theta, s)
    offset, tangent = theta - curve.position(s), curve.velocity(s)
    tangent = tangent / tangent.norm(dim=-1, keepdim=True)
    return tangent[..., 0] * offset[..., 1] - tangent[..., 1] * offset[..., 0]


def _newton_step(curve: Curve, theta: Tensor, s: Tensor) -> Tensor:
    """Towards the zero of ½ d/ds ‖θ − γ(s)‖²."""
    offset, velocity = theta - curve.position(s), curve.velocity(s)
    slope = -(offset * velocity).sum(-1)
    curvature = velocity.square().sum(-1) - (offset * curve.acceleration(s)).sum(-1)
    return s - slope / curvature


def offset_surface(curve: Curve, alpha: float = 1.0, beta: float = 0.0) -> Loss:
    """E = β + α·(signed distance to Γ): the ruled-surface corridor of Example 2.5 and Fig. 1a."""
    return lambda theta: beta + alpha * signed_distance(curve, theta)


@dataclass(frozen=True)
class GluedSurface:
    """Example 2.6 and Fig. 1b: several corridors glued along parallels of a curve Γ.

    On the strip between two `seams` (signed distances from Γ, rising) E is affine in the distance, with a slope of
    its own, so ‖∇E‖ is constant there and jumps at the seam. There is one slope more than there are seams; E is
    continuous, and 0 on the first seam. Not convex, not smooth.
    """

    curve: Curve
    seams: tuple[float, ...]
    slopes: tuple[float, ...]

    def __call__(self, theta: Tensor) -> Tensor:
        d = signed_distance(self.curve, theta)
        E = self.piece(0, d)
        for i, seam in enumerate(self.seams):
            E = torch.where(d > seam, self.piece(i + 1, d), E)
        return E

    def piece(self, i: int, d: Tensor) -> Tensor:
        """The i-th corridor, as if it went on beyond its strip; d is the signed distance from Γ."""
        heights = [0.0]
        for low, high, slope in zip(self.seams, self.seams[1:], self.slopes[1:], strict=False):
            heights.append(heights[-1] + slope * (high - low))
        anchor = max(i - 1, 0)
        return heights[anchor] + self.slopes[i] * (d - self.seams[anchor])

    def distance_to_seam(self, theta: Tensor) -> Tensor:
        d = signed_distance(self.curve, theta)
        return (d.unsqueeze(-1) - torch.tensor(self.seams, dtype=d.dtype)).abs().amin(-1)


def fig1a() -> Loss:
    """Our choice for Fig. 1a, whose formula the paper does not give: the corridor that leads down to an ellipse."""
    return offset_surface(ellipse(1.0, 0.7), alpha=-1.0)


def fig1b() -> GluedSurface:
    """Our choice for Fig. 1b: four corridors along a line that is straight on one side and wavy on the other."""
    return GluedSurface(wave(0.1, 2.0), seams=(-0.4, 0.0, 0.4), slopes=(0.4, 1.5, 0.6, 2.0))


# ------------------------------------------------------------------- no corridors


def wavy_cone(waves: int = 5, depth: float = 0.2) -> Loss:
    """r(1 + depth·cos(waves·φ)): ruled, homogeneous of degree 1, and no corridor."""

    def E(theta: Tensor) -> Tensor:
        phi = torch.atan2(theta[..., 1], theta[..., 0])
        return theta.norm(dim=-1) * (1 + depth * torch.cos(waves * phi))

    return E


def saddle(theta: Tensor) -> Tensor:
    """xy: doubly ruled, and no corridor. The converse in Example 2.5 fails, as the paper says."""
    return theta[..., 0] * theta[..., 1]


def quadratic(A: Tensor, b: Tensor, c: float = 0.0) -> Loss:
    """Example 2.7 and Appendix C: ½θᵀAθ + bᵀθ + c."""
    return lambda theta: (theta * (theta @ A)).sum(-1) / 2 + theta @ b + c


def quadratic_hg(A: Tensor, b: Tensor, theta: Tensor) -> Tensor:
    """Eq. 21: Hg = A(Aθ + b) on a quadratic."""
    return (theta @ A + b) @ A
