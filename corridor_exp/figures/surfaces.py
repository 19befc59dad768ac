"""Fig. 1: two surfaces made of corridors, with lines of steepest descent. Needs no runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from corridor_exp.figures import style
from corridor_exp.theory.flows import gradient_descent
from corridor_exp.theory.surfaces import Curve, Loss, ellipse, fig1a, fig1b, gradient, wave

STEP = 0.02
LIFT = 0.02  # lines lie a little above their surface, so that it does not hide them


@dataclass(frozen=True)
class Point:
    """A point of a line of steepest descent."""

    surface: str
    line: int
    x: float
    y: float
    loss: float


def strip(curve: Curve, s: Tensor, d: Tensor) -> Tensor:
    """The points at signed distance d from γ(s), (…, 2); positive to the left of the curve."""
    tangent = curve.velocity(s)
    tangent = tangent / tangent.norm(dim=-1, keepdim=True)
    return curve.position(s) + d.unsqueeze(-1) * torch.stack([-tangent[..., 1], tangent[..., 0]], -1)


def descent(E: Loss, start: Tensor, lowest: float) -> Iterator[Tensor]:
    """Steepest descent from `start` down to the loss `lowest`, in steps of equal length."""

    def direction(theta: Tensor) -> Tensor:
        g = gradient(E, theta)
        return g / g.norm()

    path = gradient_descent(direction, start, STEP, steps=1000)
    yield start
    yield from takewhile(lambda theta: E(theta).item() > lowest, path)


def draw(title: str) -> tuple[Figure, list[Point]]:
    """The figure, and its lines of steepest descent."""
    around = torch.linspace(-math.pi, math.pi, 121, dtype=torch.float64)
    along = torch.linspace(-2, 2, 121, dtype=torch.float64)
    with mpl.rc_context(style.RC):
        figure = style.new_figure(3.1)
        left, right = (figure.add_subplot(1, 2, n, projection="3d", computed_zorder=False) for n in (1, 2))
        lines = _surface(left, "(a) a ruled surface", fig1a(), ellipse(1.0, 0.7), around, (-1.0, 0.0), around[5:-1:10])
        lines += _surface(
            right, "(b) corridors glued together", fig1b(), wave(0.1, 2.0), along, (0.85, -0.85), along[[75]]
        )
        figure.suptitle(title, fontsize=9)
    return figure, lines


def _surface(
    axis: Any, name: str, E: Loss, curve: Curve, s: Tensor, distances: tuple[float, float], starts: Tensor
) -> list[Point]:
    """The surface between two signed distances from a curve, with lines that start at the first of them."""
    d = torch.linspace(*distances, 41, dtype=torch.float64)
    theta = strip(curve, *torch.meshgrid(s, d, indexing="ij"))
    loss = E(theta)
    shape = theta[..., 0].numpy(), theta[..., 1].numpy(), loss.numpy()
    axis.plot_surface(*shape, cmap="cividis", rstride=3, cstride=2, linewidth=0.1, edgecolor="0.4", alpha=0.85)
    lines = []
    for number, start in enumerate(strip(curve, starts, d[0].expand(len(starts)))):
        path = []
        for theta in descent(E, start, loss.min().item()):
            x, y = theta.tolist()
            path.append(Point(name[:3], number, x, y, E(theta).item()))
        heights = [p.loss + LIFT for p in path]
        axis.plot([p.x for p in path], [p.y for p in path], heights, color="#D55E00", linewidth=1.8)
        lines += path
    axis.set(xlabel="θ₁", ylabel="θ₂", zlabel="E", title=name)
    axis.view_init(elev=38, azim=-60)
    return lines
