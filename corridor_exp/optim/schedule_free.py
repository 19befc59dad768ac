"""Schedule-Free SGD with a Polyak step instead of a learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from corridor_exp.optim.contract import parameters, restored
from corridor_exp.optim.descent import Descent, FirstOrder, descend
from corridor_exp.theory import stepsizes
from corridor_exp.theory.vectors import inner


class ScheduleFreePolyak(Descent):
    """Schedule-Free SGD with h = max(0, E − f* + ⟨g, z − y⟩)/max(‖g‖², M) (Oikonomou et al., arXiv 2511.07767).

    E and g are taken at y, where the parameters stand. Then z ← z − hg; x ← (1 − 1/k)x + z/k in the k-th step, the
    mean of all z; y ← (1 − β)z + βx. What is tested is x. At β = 0 it is SPS_safe, and x the mean of its points.

    The numerator is that of `CLRMomentum`: the linear model of the loss reaches f* at z − hg, as there at θ + βv − hg.

    Arguments: ``params``; ``momentum``, β; ``safeguard``, M, so that a small gradient makes no long step; ``f_star``,
    a lower bound of every batch's loss; ``step_cap``, a further bound of h, or None. Memory: two copies of the
    parameters.

    Assumes convex losses; with interpolation it converges to the minimum itself.
    """

    def __init__(
        self,
        params: ParamsT,
        momentum: float = 0.9,
        safeguard: float = 1.0,
        step_cap: float | None = None,
        f_star: float = 0.0,
    ) -> None:
        if not (0 <= momentum < 1 and safeguard >= 0):
            raise ValueError(f"momentum must be in [0, 1), safeguard not negative, got {momentum} and {safeguard}")
        super().__init__(params, step_cap=step_cap, f_star=f_star)
        self.momentum, self.safeguard = momentum, safeguard
        self.memory = {"steps": self.number(0)}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            self.state[p] = {"z": p.detach().clone(), "mean": p.detach().clone()}

    def step_size(self, at: FirstOrder) -> Tensor:
        ahead = torch._foreach_sub([self.state[p]["z"] for p in at.params], at.params)
        return stepsizes.clr_momentum(at.gap, at.grad_norm_sq, inner(at.grads, ahead), self.safeguard)

    def move(self, params: list[Tensor], grads: list[Tensor], h: Tensor, unsound: Tensor) -> None:
        z, mean = ([self.state[p][name] for p in params] for name in ("z", "mean"))
        descend(z, grads, h, unsound)
        weight = torch.where(unsound, 0.0, 1 / (self.memory["steps"] + 1))
        for p, newest, average in zip(params, z, mean, strict=True):
            average.lerp_(newest, weight.to(p.dtype))
            p.copy_(newest.lerp(average, self.momentum))

    def remember(self, h: Tensor, sound: Tensor) -> None:
        self.memory["steps"] = self.memory["steps"] + sound

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        params = parameters(self)
        with restored(params):
            with torch.no_grad():
                torch._foreach_copy_(params, [self.state[p]["mean"] for p in params])
            yield
