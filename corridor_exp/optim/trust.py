"""A corridor learning rate that can be trusted away from interpolation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from corridor_exp.objective import Batch, Objective
from corridor_exp.optim.descent import Descent, FirstOrder, descend
from corridor_exp.theory import stepsizes

DECREASE = 0.1  # the share of the expected decrease h‖g‖² that a step must bring, as in Armijo's rule
WINDOW = 10  # losses that a step may climb to, as in Grippo, Lampariello & Lucidi's rule
HALVINGS = 30


class CLRTrust(Descent):
    """CLR under a non-monotone acceptance: h = E/‖g‖² is halved until E_B(θ − hg) ≤ R − 0.1 h‖g‖².

    R = max(E_B, min(M, E₀)), where M is the largest of the last 10 batch losses and E₀ the first of the run: a step
    may climb as high as it has been of late, but not above the start. (Demanding a decrease at every step would kill
    CLR's advantage, which comes from steps that first climb.) Where 30 halvings do not help, there is no step; where
    every step is accepted it is CLR, bit for bit. Nothing to tune. One forward pass more a step, one further for each
    halving, one host sync each; memory: one copy of the parameters.

    Arguments: ``params``; ``f_star`` and ``step_cap`` as in `CLR`. `prepare` gives it the batch before each step; there
    is no use of it without an `Objective`.

    Assumes nothing that CLR does not. Derived here, from Grippo, Lampariello & Lucidi (SIAM J. Numer. Anal. 1986);
    compare PoNoS (Galli et al., arXiv 2306.12747), which starts a non-monotone search at a Polyak step, too. How the
    rule was chosen, and where it loses: docs/step-sizes.md.
    """

    _loss_at: Callable[[dict[Tensor, Tensor]], Tensor] | None = None  # on the batch of the coming step

    def __init__(self, params: ParamsT, step_cap: float | None = None, f_star: float = 0.0) -> None:
        super().__init__(params, step_cap=step_cap, f_star=f_star)
        self.memory = {
            "gaps": self.number(-torch.inf).repeat(WINDOW),
            "first": self.number(torch.inf),
            "count": torch.tensor(0),
        }

    def prepare(self, objective: Objective, batch: Batch) -> None:
        trial, theta = objective.trial(batch), objective.theta
        self._loss_at = lambda moved: trial([moved.get(p, p) for p in theta])

    def step_size(self, at: FirstOrder) -> Tensor:
        if self._loss_at is None:
            raise TypeError("CLRTrust tries its steps: call prepare(objective, batch) before each step")
        loss_at, self._loss_at = self._loss_at, None
        h = self.capped(stepsizes.clr(at.gap, at.grad_norm_sq))
        if not h.isfinite():  # no step will be taken
            return h
        reference = self._reference(at.gap)
        for _ in range(HALVINGS):
            gap = loss_at(self._moved(at, h)) - self.f_star
            if gap <= reference - DECREASE * h * at.grad_norm_sq:
                return h
            h = h / 2
        return torch.zeros_like(h)

    def _reference(self, gap: Tensor) -> Tensor:
        """R − f*, after the loss of this step has joined the window."""
        memory, count = self.memory, int(self.memory["count"])
        if not count:
            memory["first"] = gap.double()
        memory["gaps"][count % WINDOW] = gap
        memory["count"] += 1
        return memory["gaps"].max().minimum(memory["first"]).maximum(gap)

    def _moved(self, at: FirstOrder, h: Tensor) -> dict[Tensor, Tensor]:
        """θ − hg, by the parameters that it would take the place of: the same bits as a step would give them."""
        moved: dict[Tensor, Tensor] = {}
        for group in at.groups:
            there = [p.clone() for p in group.params]
            descend(there, group.grads, group.multiplier * h, torch.zeros_like(h))
            moved.update(zip(group.params, there, strict=True))
        return moved
