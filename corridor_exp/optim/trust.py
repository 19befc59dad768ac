"""A corridor learning rate that can be trusted away from interpolation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from corridor_exp.optim.descent import FirstOrder
from corridor_exp.optim.line_search import LineSearch
from corridor_exp.theory import stepsizes

WINDOW = 10  # losses that a step may climb to, as in Grippo, Lampariello & Lucidi's rule


class CLRTrust(LineSearch):
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

    decrease, shrink, tries, last_resort = 0.1, 0.5, 30, 0.0

    def __init__(self, params: ParamsT, step_cap: float | None = None, f_star: float = 0.0) -> None:
        super().__init__(params, step_cap=step_cap, f_star=f_star)
        self.memory = {
            "gaps": self.number(-torch.inf).repeat(WINDOW),
            "first": self.number(torch.inf),
            "count": torch.tensor(0),
        }

    def first_step(self, at: FirstOrder) -> Tensor:
        return stepsizes.clr(at.gap, at.grad_norm_sq)

    def reference(self, gap: Tensor) -> Tensor:
        """After the loss of this step has joined the window."""
        memory, count = self.memory, int(self.memory["count"])
        if not count:
            memory["first"] = gap.double()
        memory["gaps"][count % WINDOW] = gap
        memory["count"] += 1
        return memory["gaps"].max().minimum(memory["first"]).maximum(gap)
