"""The step size of drift-adjusted learning rates: it looks at Hg instead of the loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from corridor_exp.objective import Batch, Objective
from corridor_exp.optim.descent import Descent, FirstOrder
from corridor_exp.theory import stepsizes
from corridor_exp.theory.vectors import norm


class DAL(Descent):
    """DAL-p: h = min{2/(‖Hg‖/‖g‖)^p, step_cap}; DAL is p = 1 (Rosca et al., TMLR 2023, arXiv 2302.01952).

    Arguments: ``params``; ``power``, p; ``step_cap`` (5 in the authors' code), or None; ``curvature``: ``autodiff``
    takes the exact Hg, ``secant`` the change of g over an ``offset`` of that length along g, which is one more
    gradient, and on ReLU networks another number (docs/measuring.md). Both on the batch of the step.

    `prepare` measures ‖Hg‖/‖g‖ before each step; in a loop of one's own, set ``ratio`` to it instead.

    Assumes nothing of the loss: a small step where the gradient flow is curved.
    """

    def __init__(
        self,
        params: ParamsT,
        power: float = 1.0,
        step_cap: float | None = 5.0,
        curvature: str = "autodiff",
        offset: float = 0.01,
    ) -> None:
        if not (power > 0 and offset > 0) or curvature not in ("autodiff", "secant"):
            raise ValueError(f"power and offset must be positive, and {curvature!r} autodiff or secant")
        super().__init__(params, step_cap=step_cap)
        self.power, self.curvature, self.offset = power, curvature, offset
        self.ratio: Tensor | None = None  # ‖Hg‖/‖g‖ at the coming step

    def prepare(self, objective: Objective, batch: Batch) -> None:
        if self.curvature == "autodiff":
            _, g, hg = objective.gradient_and_hg(batch)
            self.ratio = norm(hg) / norm(g)
            return
        _, g = objective.gradient(batch)
        away = self.offset / norm(g)
        moved = [p + (away * d).to(p.dtype) for p, d in zip(objective.theta, g, strict=True)]
        _, there = objective.gradient(batch, moved)
        self.ratio = norm(torch._foreach_sub(there, g)) / self.offset

    def step_size(self, at: FirstOrder) -> Tensor:
        if self.ratio is None:
            raise TypeError("DAL needs ‖Hg‖/‖g‖: call prepare(objective, batch), or set ratio, before each step")
        ratio, self.ratio = self.ratio, None
        return stepsizes.dal(ratio, self.power)
