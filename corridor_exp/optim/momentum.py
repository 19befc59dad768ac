"""Heavy-ball momentum, for steps that are computed anew: θ′ = θ + βv − hg."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from corridor_exp.optim.descent import Descent, descend


class HeavyBall(Descent):
    """θ′ = θ + βv − hg with v = θ − θ_before; h from `step_size`. Memory: one copy of the parameters, v.

    Arguments: ``momentum``, β, and those of `Descent`.
    """

    def __init__(self, params: ParamsT, momentum: float, **options: Any) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        super().__init__(params, **options)
        self.momentum = momentum

    def move(self, params: list[Tensor], grads: list[Tensor], h: Tensor, unsound: Tensor) -> None:
        velocity = self.velocity(params)
        if velocity:
            torch._foreach_mul_(velocity, torch.where(unsound, torch.ones_like(h), self.momentum))
            descend(velocity, grads, h, unsound, self.maximize)
            descend(params, velocity, torch.ones_like(h), unsound, maximize=True)

    def velocity(self, params: list[Tensor]) -> list[Tensor]:
        """v, one tensor a parameter."""
        for p in params:
            if "velocity" not in self.state[p]:
                self.state[p]["velocity"] = torch.zeros_like(p)
        return [self.state[p]["velocity"] for p in params]
