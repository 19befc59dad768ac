"""Polyak's step size and the variants that the paper cites."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from corridor_exp.optim.clr import CLR
from corridor_exp.optim.contract import parameters, restored
from corridor_exp.optim.descent import Descent, FirstOrder
from corridor_exp.theory import stepsizes


class Polyak(CLR):
    """Polyak's step h = (E − E*)/‖g‖² for a known minimum E*: CLR, if E* = 0. `f_star` is E*.

    Assumes a convex loss and its exact minimum. Source: Polyak, Introduction to Optimization, 1987.
    """

    def __init__(self, params: ParamsT, f_star: float, *, maximize: bool = False) -> None:
        super().__init__(params, f_star=f_star, maximize=maximize)


class SPSMax(Descent):
    """SPS_max: h = min{(E_B − E_B*)/(c‖g_B‖²), γ} on each batch B (Loizou et al., AISTATS 2021, arXiv 2002.10542).

    Arguments: ``params``; ``c`` (½ in the authors' runs of deep networks, which doubles Polyak's step; ≥ ½ is what
    their theorems ask for); ``step_cap``, the constant bound γ_max, or None; ``f_star``, a lower bound of every
    batch's minimum E_B*, mostly 0. ``step(loss=E, f_star=…)`` takes a batch's own.

    With ``smooth`` the bound is also γ_k = 2^{B/N} h_{k−1}, where B/N = 1/``steps_per_epoch`` and h_{−1} =
    ``initial_step``: a step may double in an epoch. It is the last step that was taken: in the authors' code one
    zero gradient would set h_{k−1}, and so all later steps, to 0 for ever.

    Assumes interpolation, or one ends in a neighbourhood of the minimum.
    """

    def __init__(
        self,
        params: ParamsT,
        c: float = 1.0,
        step_cap: float | None = 1.0,
        f_star: float = 0.0,
        smooth: bool = False,
        initial_step: float = 1.0,
        steps_per_epoch: int = 1,
        *,
        maximize: bool = False,
    ) -> None:
        if not (c > 0 and initial_step > 0):
            raise ValueError(f"c and initial_step must be positive, got {c} and {initial_step}")
        super().__init__(params, step_cap=step_cap, f_star=f_star, maximize=maximize)
        self.c, self.smooth, self.growth = c, smooth, 2 ** (1 / steps_per_epoch)
        if smooth:
            self.memory["step"] = self.number(initial_step)

    def step_size(self, at: FirstOrder) -> Tensor:
        h = stepsizes.clr(at.gap, at.grad_norm_sq, scale=1 / self.c)
        return h.minimum(self.growth * self.memory["step"]) if self.smooth else h

    def remember(self, h: Tensor, sound: Tensor) -> None:
        if self.smooth:
            self.memory["step"] = torch.where(sound & (h > 0), h.double(), self.memory["step"])


class DecSPS(Descent):
    """DecSPS: h_k = min{(E_B − f*)/‖g_B‖², c_{k−1} h_{k−1}}/c_k, c_k = c₀√(k+1) (Orvieto et al., NeurIPS 2022).

    Arguments: ``params``; ``c``, c₀; ``initial_step``, h_{−1}, which bounds the first step; ``f_star``, any lower
    bound of the batches' minima; ``step_cap``, a further bound, or None. The steps never grow.

    Assumes convex losses; converges to the exact minimum without interpolation. Source: arXiv 2205.04583, Eq. 5. (The
    authors' code for real data adds 1e-4 to each component of g before the norm is taken; this does not.)
    """

    def __init__(
        self,
        params: ParamsT,
        c: float = 1.0,
        initial_step: float = 1.0,
        step_cap: float | None = None,
        f_star: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        if not (c > 0 and initial_step > 0):
            raise ValueError(f"c and initial_step must be positive, got {c} and {initial_step}")
        super().__init__(params, step_cap=step_cap, f_star=f_star, maximize=maximize)
        self.c = c
        self.memory = {"k": self.number(0), "bound": self.number(c * initial_step)}

    def step_size(self, at: FirstOrder) -> Tensor:
        return stepsizes.decsps(at.gap, at.grad_norm_sq, self.memory["bound"], self._c())

    def remember(self, h: Tensor, sound: Tensor) -> None:
        taken = sound & (h > 0)  # a step of 0, at E = f*, would be the last one
        self.memory["bound"] = torch.where(taken, self._c() * h, self.memory["bound"])
        self.memory["k"] = self.memory["k"] + taken

    def _c(self) -> Tensor:
        return self.c * (self.memory["k"] + 1).sqrt()


class HazanKakade(Descent):
    """Hazan & Kakade's step h = (E − f̃)/(2‖g‖²) for a lower bound f̃ of the loss (arXiv 1905.00313).

    Arguments: ``params``; ``f_star``, f̃, 0 for most losses; ``step_cap``, or None.

    With ``adaptive`` the bound is refined (their Algorithm 2): ``horizon`` steps from θ₀ with f̃, of which the best
    loss is Ē; then f̃ ← (Ē + f̃)/2, and again from θ₀. What is tested is the best θ so far. Memory: two copies of
    the parameters. It needs the loss itself, so full batches.

    Assumes a convex loss. Each round halves the distance of f̃ from the minimum, until the steps get no nearer.
    """

    def __init__(
        self,
        params: ParamsT,
        f_star: float = 0.0,
        adaptive: bool = False,
        horizon: int = 100,
        step_cap: float | None = None,
    ) -> None:
        if not horizon > 0:
            raise ValueError(f"horizon must be positive, got {horizon}")
        self.adaptive, self.horizon = adaptive, horizon
        super().__init__(params, step_cap=step_cap, f_star=f_star)
        if not adaptive:
            return
        self.memory = {
            "bound": self.number(0),  # f̃ − f_star
            "round_best": self.number(torch.inf),
            "best": self.number(torch.inf),
            "steps": torch.tensor(0),  # of this round; on the host, which decides when it ends
        }

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"] if self.adaptive else ():
            self.state[p] = {"start": p.detach().clone(), "best": p.detach().clone()}

    def step_size(self, at: FirstOrder) -> Tensor:
        if not self.adaptive:
            return stepsizes.clr(at.gap, at.grad_norm_sq, scale=0.5)
        memory = self.memory
        memory["round_best"] = memory["round_best"].fmin(at.gap)
        better = at.gap < memory["best"]
        memory["best"] = memory["best"].fmin(at.gap)
        for p in at.params:
            self.state[p]["best"].copy_(torch.where(better, p, self.state[p]["best"]))
        return stepsizes.clr(at.gap - memory["bound"], at.grad_norm_sq, scale=0.5)

    def remember(self, h: Tensor, sound: Tensor) -> None:
        if not self.adaptive:
            return
        memory = self.memory
        memory["steps"] = memory["steps"] + 1
        if memory["steps"] == self.horizon:
            memory["bound"] = (memory["round_best"] + memory["bound"]) / 2
            memory["round_best"] = torch.full_like(memory["round_best"], torch.inf)
            memory["steps"] = torch.tensor(0)
            self._put("start")

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        with restored(parameters(self)):
            if self.adaptive:
                self._put("best")
            yield

    @torch.no_grad()
    def _put(self, name: str) -> None:
        for p in parameters(self):
            p.copy_(self.state[p][name])
