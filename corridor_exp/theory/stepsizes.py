"""Step sizes h of gradient descent θ′ = θ − h g, as functions of 0-dim tensors.

Symbols: E the loss, g its gradient, f_star a lower bound of E. All return a 0-dim tensor and never sync.
"""

from __future__ import annotations

from torch import Tensor


def clr(loss: Tensor, grad_norm_sq: Tensor, f_star: float = 0.0, scale: float = 1.0) -> Tensor:
    """Eq. 3: the Corridor Learning Rate h = scale · (E − f_star)/‖g‖², never negative.

    In a corridor E(θ − hg) = E − h‖g‖² (Prop. 2.10), so with scale 1 one step reaches f_star. With f_star = 0 it
    is the paper's; with f_star = E* it is Polyak's step (1987). Infinite or NaN where g = 0.
    """
    return scale * (loss - f_star).clamp(min=0) / grad_norm_sq
