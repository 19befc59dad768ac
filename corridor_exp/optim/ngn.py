"""The step size of the non-negative Gauss–Newton method."""

from __future__ import annotations

from torch import Tensor
from torch.optim.optimizer import ParamsT

from corridor_exp.optim.descent import Descent, FirstOrder
from corridor_exp.optim.momentum import HeavyBall
from corridor_exp.theory import stepsizes


class NGN(Descent):
    """NGN: h = σ/(1 + σ‖g‖²/(2(E − f*))) (Orvieto & Xiao, arXiv 2407.04358).

    It is the Gauss–Newton step for √(E − f*)², damped by 1/(2σ). 1/h = 1/σ + ‖g‖²/(2(E − f*)), so h is below σ and
    below twice Polyak's step. On E = ½aθ² it is the implicit Euler step of length σ.

    Arguments: ``params``; ``sigma``, σ; ``f_star``, a lower bound of the loss.

    Assumes that the loss is above ``f_star``. No interpolation is needed.
    """

    def __init__(self, params: ParamsT, sigma: float = 1.0, f_star: float = 0.0) -> None:
        super().__init__(params, f_star=f_star)
        self.sigma = _positive(sigma)

    def step_size(self, at: FirstOrder) -> Tensor:
        return stepsizes.ngn(at.gap, at.grad_norm_sq, self.sigma)


class NGNMomentum(HeavyBall):
    """NGN-M: θ′ = θ + βv − (1 − β)hg, h as in `NGN` (Islamov et al., arXiv 2508.15071, Algorithm 1; their c is σ).

    Arguments: ``params``; ``sigma``, σ; ``momentum``, β; ``f_star``. The step that it tells is (1 − β)h.

    Assumes what `NGN` assumes.
    """

    def __init__(self, params: ParamsT, sigma: float = 1.0, momentum: float = 0.9, f_star: float = 0.0) -> None:
        super().__init__(params, momentum, f_star=f_star)
        self.sigma = _positive(sigma)

    def step_size(self, at: FirstOrder) -> Tensor:
        return (1 - self.momentum) * stepsizes.ngn(at.gap, at.grad_norm_sq, self.sigma)


def _positive(sigma: float) -> float:
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    return sigma
