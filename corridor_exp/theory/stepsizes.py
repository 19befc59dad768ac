"""Step sizes h of gradient descent θ′ = θ − h g, as functions of 0-dim tensors.

`loss` is E, or E − f* where the loss E has another lower bound f* than 0; g is its gradient. All return a 0-dim tensor
and never sync.
"""

from __future__ import annotations

from torch import Tensor


def clr(loss: Tensor, grad_norm_sq: Tensor, scale: float = 1.0) -> Tensor:
    """Eq. 3: the Corridor Learning Rate h = scale · E/‖g‖², never negative.

    In a corridor E(θ − hg) = E − h‖g‖² (Prop. 2.10), so with scale 1 one step reaches 0. Of E − E* it is Polyak's step
    (1987); with scale 1/c it is that of SPS (Loizou et al., arXiv 2002.10542, Eq. 4), with scale ½ that of Hazan &
    Kakade (arXiv 1905.00313). Infinite or NaN where g = 0.
    """
    return scale * loss.clamp(min=0) / grad_norm_sq


def clr_momentum(loss: Tensor, grad_norm_sq: Tensor, slope: Tensor, safeguard: float = 0.0) -> Tensor:
    """Eq. 2 with momentum: h = max(0, E + ⟨g, βv⟩)/‖g‖² for the step θ′ = θ + βv − hg, where slope = ⟨g, βv⟩.

    It makes E + ⟨g, θ′ − θ⟩ = 0, as CLR does without momentum. (CLR's own h beside a momentum overshoots.) With
    max(‖g‖², M) below, where M is `safeguard`, it is the step of Schedule-Free Polyak (Oikonomou et al., arXiv
    2511.07767) with slope = ⟨g, z − y⟩, and with slope 0 that of SPS_safe (Oikonomou & Loizou, arXiv 2512.02342).
    """
    return (loss + slope).clamp(min=0) / grad_norm_sq.clamp(min=safeguard)


def decsps(loss: Tensor, grad_norm_sq: Tensor, bound: Tensor, c: Tensor | float) -> Tensor:
    """DecSPS (Orvieto et al., NeurIPS 2022, arXiv 2205.04583): h_k = min{(E − f*)/‖g‖², c_{k−1} h_{k−1}}/c_k.

    `loss` is E − f*, for any lower bound f*; `bound` is c_{k−1} h_{k−1}; `c` is c_k = c₀√(k+1).
    """
    return clr(loss, grad_norm_sq).minimum(bound) / c


def dal(curvature: Tensor, power: float = 1.0) -> Tensor:
    """DAL-p (Rosca et al., TMLR 2023, arXiv 2302.01952): h = 2/(‖Hg‖/‖g‖)^p, where curvature = ‖Hg‖/‖g‖."""
    return 2 / curvature.pow(power)


def ngn(loss: Tensor, grad_norm_sq: Tensor, sigma: float) -> Tensor:
    """NGN (Orvieto & Xiao, arXiv 2407.04358): h = σ/(1 + σ‖g‖²/(2E)), so that 1/h = 1/σ + ‖g‖²/(2E). 0 at E = 0."""
    twice = 2 * loss.clamp(min=0)
    return sigma * twice / (twice + sigma * grad_norm_sq)


def cdat(slope: Tensor, curvature: Tensor, scale: float = 2.0) -> Tensor:
    """CDAT (Roulet et al., NeurIPS 2024, arXiv 2407.06183): h = σ ‖g‖²/|gᵀHg|, or of the averages of both."""
    return scale * slope / curvature
