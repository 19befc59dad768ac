"""The step size that keeps gradient descent at the edge of stability."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from corridor_exp.objective import Batch, Objective
from corridor_exp.optim.descent import Descent, FirstOrder
from corridor_exp.theory import stepsizes
from corridor_exp.theory.vectors import inner, squared_norm


class CDAT(Descent):
    """CDAT: h = σ n/d, n and d averages of ‖g‖² and |gᵀHg| (Roulet et al., NeurIPS 2024, arXiv 2407.06183).

    On a quadratic, σ = 1 is the exact line search along g. At σ = 2 the loss would stay as it is: the edge of
    stability, where the authors find the best steps for full batches.

    Arguments: ``params``; ``scale``, σ; ``beta``, the decay of the averages (0: none, for full batches); ``step_cap``.

    `prepare` measures both numbers on the batch of the step; in a loop of one's own, set ``measured`` to them instead.
    (The authors add an ε to d. Here a step that is not finite is not taken.)

    Assumes nothing of the loss; on ReLU networks H is that of the linear piece of θ (docs/measuring.md).
    """

    def __init__(self, params: ParamsT, scale: float = 2.0, beta: float = 0.9, step_cap: float | None = None) -> None:
        if not (scale > 0 and 0 <= beta < 1):
            raise ValueError(f"scale must be positive, and beta in [0, 1), got {scale} and {beta}")
        super().__init__(params, step_cap=step_cap)
        self.scale, self.beta = scale, beta
        self.memory = {"averages": self.number(0).repeat(2)}  # both begin at 0, a bias that their ratio is free of
        self.measured: tuple[Tensor, Tensor] | None = None  # ‖g‖² and gᵀHg at the coming step

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if param_group.get("multiplier", 1) != 1:
            raise ValueError("CDAT measures the curvature along g: its groups have no multiplier")
        super().add_param_group(param_group)

    def prepare(self, objective: Objective, batch: Batch) -> None:
        _, g, hg = objective.gradient_and_hg(batch)
        self.measured = squared_norm(g), inner(g, hg)

    def step_size(self, at: FirstOrder) -> Tensor:
        if self.measured is None:
            raise TypeError(
                "CDAT needs ‖g‖² and gᵀHg: call prepare(objective, batch), or set measured, before each step"
            )
        now, self.measured = torch.stack(self.measured).abs(), None
        self.averages = self.beta * self.memory["averages"] + (1 - self.beta) * now
        return stepsizes.cdat(self.averages[0], self.averages[1], self.scale)

    def remember(self, h: Tensor, sound: Tensor) -> None:
        self.memory["averages"] = torch.where(sound, self.averages, self.memory["averages"])
