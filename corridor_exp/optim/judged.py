"""The candidates of the experiment in docs/step-sizes.md, "Acceptance by the next gradient"."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from corridor_exp.objective import Batch, Objective
from corridor_exp.optim.descent import Descent, FirstOrder
from corridor_exp.theory import stepsizes
from corridor_exp.theory.vectors import inner, squared_norm

WINDOW = 10


class MidpointCLR(Descent):
    """Candidate A: h is halved while ‖g − g(θ − ½hg)‖ > κ‖g‖ on the same batch."""

    def __init__(self, params: ParamsT, kappa: float = 1.0) -> None:
        super().__init__(params)
        self.kappa = kappa

    def prepare(self, objective: Objective, batch: Batch) -> None:
        self._gradient_at = lambda theta: objective.gradient(batch, theta)[1]

    def step_size(self, at: FirstOrder) -> Tensor:
        gradient_at = self._gradient_at
        del self._gradient_at
        h = stepsizes.clr(at.gap, at.grad_norm_sq)
        if not (h.isfinite() and at.grad_norm_sq > 0):
            return h
        for _ in range(30):
            half = torch._foreach_sub(at.params, torch._foreach_mul(at.grads, h / 2))
            with torch.enable_grad():
                g_half = gradient_at(half)
            if squared_norm(torch._foreach_sub(g_half, at.grads)) <= self.kappa**2 * at.grad_norm_sq:
                break
            h = h / 2
        return h


class JudgedCLR(Descent):
    """Candidates B and C: the gradient of the next batch judges the step, which is shortened where it is refused."""

    def __init__(
        self, params: ParamsT, kappa: float = 1.0, by_loss: bool = False, growth: float = 1.0, window: int = 10,
        halve: bool = False,
        retreat: bool = True,
        floor: float = 1 / 16,
    ) -> None:
        super().__init__(params)
        self.halve, self.retreat, self.floor = halve, retreat, floor
        self.kappa, self.by_loss, self.growth, self.window = kappa, by_loss, growth, window
        self.memory = {
            "share": self.number(1),  # of CLR's step that the last one still has
            "length": self.number(0),  # of the last step, in h
            "start": self.number(1),  # the share to begin with
            "gaps": self.number(-torch.inf).repeat(window),
            "first": self.number(torch.inf),
            "count": torch.tensor(0),
        }

    def step_size(self, at: FirstOrder) -> Tensor:
        memory = self.memory
        if not (at.gap + at.grad_norm_sq).isfinite() or not at.grad_norm_sq > 0:
            return at.gap * 0
        if memory["count"] > 0:
            moved = [self.state[p]["moved"] for p in at.params]
            a = memory["length"] * inner(at.grads, moved).double() / squared_norm(moved).double()
            if not self.retreat and self._refused(at, a):
                memory["start"] = (memory["start"] / 2).clamp(min=self.floor) / self.growth
            elif self._refused(at, a):
                left = 1 / (1 - a)
                if self.halve:
                    left = left.new_tensor(0.5)
                elif self.by_loss:
                    left = left.clamp(1 / 16, 1 / 2) if a < 1 else left.new_tensor(0.5)
                torch._foreach_add_(at.params, torch._foreach_mul(moved, float(1 - left)))
                torch._foreach_mul_(moved, float(left))
                memory["share"], memory["length"] = memory["share"] * left, memory["length"] * left
                if self.growth > 1:
                    memory["start"] = memory["share"].clone()
                return at.gap * 0
        else:
            memory["first"] = at.gap.double()
        if self.growth > 1:
            memory["start"] = (memory["start"] * self.growth).clamp(max=1)
        memory["gaps"][int(memory["count"]) % self.window] = at.gap
        memory["count"] += 1
        h = memory["start"] * stepsizes.clr(at.gap, at.grad_norm_sq)
        memory["share"], memory["length"] = memory["start"].clone(), h.double()
        for p, g in zip(at.params, at.grads, strict=True):
            self.state[p]["moved"] = h.to(g.dtype) * g
        return h

    def _refused(self, at: FirstOrder, a: Tensor) -> bool:
        if self.by_loss:
            return bool(at.gap > (self.kappa * self.memory["gaps"].max()).minimum(self.memory["first"]))
        return bool(a < -self.kappa)
