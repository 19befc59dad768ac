"""How far from a corridor: pure functions of E, g and Hg at θ, of g at the midpoint of CLR's step, and of E at its end.

CLR's step is h = E/‖g‖² (Eq. 3). In a corridor that reaches E = 0 it ends at a minimum, where g is zero or undefined.
So the gradient is compared at the midpoint θ − ½hg, and only the loss is compared over the whole step. Vectors are
sequences of tensors; all results are 0-dim float64 tensors without a unit, NaN or infinite where g = 0.

| measure | corridor | convex quadratic, minimum 0 | ‖θ‖^p |
| --- | --- | --- | --- |
| `corridor_index` | 0 | ≥ ½ | (p−1)/p |
| `secant_corridor_index` | 0 | ≥ ½ | 2(1 − (1 − 1/(2p))^(p−1)) |
| `gradient_alignment` | 1 | ≤ ¾ | (1 − 1/(2p))^(p−1) |
| `decrease_ratio` | 1 | ≤ ¾ | 1 − (1 − 1/p)^p |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from corridor_exp.theory.vectors import inner, norm

Vector = Sequence[Tensor]
MIDPOINT: Final = 0.5  # of CLR's step


def after(share: float, theta: Vector, g: Vector, h: Tensor) -> list[Tensor]:
    """θ − share · hg, the point on CLR's step where a share of it is done."""
    return [p - (share * h).to(p.dtype) * t for p, t in zip(theta, g, strict=True)]


def corridor_index(loss: Tensor, g: Vector, hg: Vector) -> Tensor:
    """E‖Hg‖/‖g‖³: the relative change of g over CLR's step, to first order."""
    return loss.double() * norm(hg) / norm(g) ** 3


def relative_change(g: Vector, g_t: Vector) -> Tensor:
    """‖g − g_t‖/‖g‖. Its supremum over CLR's step bounds E(θ − hg)/E."""
    return norm(torch._foreach_sub(list(g), list(g_t))) / norm(g)


def secant_corridor_index(g: Vector, g_midpoint: Vector) -> Tensor:
    """‖g − g(θ − ½hg)‖/(½‖g‖): the corridor index by a secant over the first half of CLR's step."""
    return relative_change(g, g_midpoint) / MIDPOINT


def gradient_alignment(g: Vector, g_midpoint: Vector) -> Tensor:
    """⟨g(θ − ½hg), g⟩/‖g‖²: the decrease ratio by the midpoint rule, to second order in h, without E's rounding."""
    return inner(g_midpoint, g, torch.float64) / inner(g, g, torch.float64)


def decrease_ratio(loss: Tensor, loss_at_end: Tensor) -> Tensor:
    """1 − E(θ − hg)/E: the share of the loss that CLR's step takes away."""
    return 1 - loss_at_end.double() / loss.double()
