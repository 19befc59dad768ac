"""The paper's optimizer, and what its Eq. 2 gives with momentum."""

from __future__ import annotations

from torch import Tensor
from torch.optim.optimizer import ParamsT

from corridor_exp.optim.descent import Descent, FirstOrder
from corridor_exp.optim.momentum import HeavyBall
from corridor_exp.theory import stepsizes
from corridor_exp.theory.vectors import inner


class CLR(Descent):
    """Eq. 3: gradient descent with the Corridor Learning Rate, θ′ = θ − h g with

        h = min{scale · (E(θ) − f*)/‖g(θ)‖², step_cap}

    where E is the loss that g is the gradient of, and ‖g‖² runs over all parameters of all groups.

    Arguments: ``params``; ``scale`` (½ is Hazan & Kakade's step for the lower bound 0); ``step_cap``, an upper
    bound of h, or None; ``f_star``, the smallest value that the loss can take; ``maximize``, as in torch's SGD, then
    ``f_star`` is the largest value.

    The step is computed on the device, without a host sync, and left as a 0-dim tensor in ``group["lr"]``; ‖g‖² is
    left in ``grad_norm_sq``. If E or ‖g‖² is not finite, or g = 0, the parameters keep their bits and h is 0. A
    group's ``multiplier`` m makes its step m·h, and ‖g‖² the sum of m‖g‖² over the groups: E − f* is still what the
    step is expected to gain.

    Assumes that the loss can reach ``f_star``: no label smoothing, no weight decay, no clipped gradient (clipping
    by k < 1 makes the displacement 1/k times as long). Under GradScaler unscale first: ``scaler.unscale_(opt)``,
    then ``scaler.step(opt, loss=loss)`` with the unscaled loss. With accumulated gradients or under
    DistributedDataParallel the loss is the mean that the gradient belongs to: over all micro-batches, over all ranks.

    Errors: `TypeError` without a loss; `ValueError` for sparse gradients and impossible settings.

    Source: Dherin & Rosca, arXiv 2402.08818, Eq. 3; Polyak, Introduction to Optimization, 1987.

    Example::

        optimizer = CLR(model.parameters(), step_cap=10)
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(lambda: loss)      # or: optimizer.step(loss=loss)
    """

    def __init__(
        self,
        params: ParamsT,
        scale: float = 1.0,
        step_cap: float | None = None,
        f_star: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        super().__init__(params, step_cap=step_cap, f_star=f_star, maximize=maximize)
        self.scale = scale

    def step_size(self, at: FirstOrder) -> Tensor:
        return stepsizes.clr(at.gap, at.grad_norm_sq, scale=self.scale)


class CLRMomentum(HeavyBall):
    """Eq. 2 with momentum: θ′ = θ + βv − hg, h = max(0, E − f* + β⟨g, v⟩)/‖g‖², where v = θ − θ_before.

    The linear model of the loss, E + ⟨g, θ′ − θ⟩, reaches f* in each step, as CLR's does; in a corridor the first
    step arrives. Arguments: ``params``; ``momentum``, β; ``step_cap``, ``f_star`` and ``maximize`` as in `CLR`.
    Memory: one copy of the parameters, v.

    Assumes what CLR assumes. Source: derived here from Dherin & Rosca, Eq. 2; compare the momentum of ALI-G
    (Berrada et al., ICML 2020), whose step takes no notice of v.
    """

    def __init__(
        self,
        params: ParamsT,
        momentum: float = 0.9,
        step_cap: float | None = None,
        f_star: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, momentum, step_cap=step_cap, f_star=f_star, maximize=maximize)

    def step_size(self, at: FirstOrder) -> Tensor:
        slope = self.momentum * inner(at.grads, self.velocity(at.params))
        return stepsizes.clr_momentum(at.gap, at.grad_norm_sq, -slope if self.maximize else slope)
