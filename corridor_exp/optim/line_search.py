"""Line searches on the batch of the step: a step is tried, and made shorter until the loss is low enough."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from corridor_exp.objective import Batch, Objective
from corridor_exp.optim.descent import Descent, FirstOrder, descend
from corridor_exp.theory import stepsizes

SMALLEST = 1e-6  # the step of PoNoS and SLS where no trial is good enough, as in their authors' code


class LineSearch(Descent):
    """h, h·shrink, h·shrink², … from `first_step`, until E_B(θ − hg) ≤ R − decrease·h‖g‖², R from `reference`.

    After `tries` refusals the step is `last_resort`. Each trial is a forward pass and a host sync; memory: one copy of
    the parameters. `prepare` gives it the batch before each step; there is no use of it without an `Objective`.
    """

    decrease: float  # the share of the expected decrease h‖g‖² that a step must bring
    shrink: float = 0.5
    tries: int = 100
    last_resort: float = SMALLEST
    _loss_at: Callable[[dict[Tensor, Tensor]], Tensor] | None = None  # on the batch of the coming step

    def first_step(self, at: FirstOrder) -> Tensor:
        """The h to try first, before the cap."""
        raise NotImplementedError

    def reference(self, gap: Tensor) -> Tensor:
        """R − f*, how high the loss may be. By default E − f* itself: it must fall."""
        return gap

    def found(self, h: Tensor, refused: int) -> None:
        """Keep in `memory` what later steps need of the search."""

    def prepare(self, objective: Objective, batch: Batch) -> None:
        trial, theta = objective.trial(batch), objective.theta
        self._loss_at = lambda moved: trial([moved.get(p, p) for p in theta])

    def step_size(self, at: FirstOrder) -> Tensor:
        if self._loss_at is None:
            raise TypeError(f"{type(self).__name__} tries its steps: call prepare(objective, batch) before each step")
        loss_at, self._loss_at = self._loss_at, None
        h = self.capped(self.first_step(at)).to(at.grad_norm_sq.dtype)
        if not ((h + at.gap + at.grad_norm_sq).isfinite() and at.grad_norm_sq > 0):  # no step will be taken
            return h
        reference = self.reference(at.gap)
        for refused in range(self.tries):
            gap = loss_at(self._moved(at, h)) - at.bound
            if gap <= reference - self.decrease * h * at.grad_norm_sq:
                self.found(h, refused)
                return h
            h = h * self.shrink
        self.found(h, self.tries)
        return torch.full_like(h, self.last_resort)

    def _moved(self, at: FirstOrder, h: Tensor) -> dict[Tensor, Tensor]:
        """θ − hg, by the parameters that it would take the place of: the same bits as a step would give them."""
        moved: dict[Tensor, Tensor] = {}
        for group in at.groups:
            there = [p.clone() for p in group.params]
            descend(there, group.grads, group.multiplier * h, torch.zeros_like(h))
            moved.update(zip(group.params, there, strict=True))
        return moved


class PoNoS(LineSearch):
    """PoNoS: a Polyak step, shortened until E_B(θ − hg) ≤ max(C, E_B) − c h‖g‖² (Galli et al., NeurIPS 2023).

    C is the mean of all batch losses so far (Zhang & Hager's with ξ = 1). The search begins at
    h = min{δ^l (E − f*)/(c_p‖g‖²), step_cap}, where l remembers the refusals: after a step with r of them it is
    max(l + r − 1, 0).

    Arguments: ``params``; ``c``, their c_p; ``decrease``, their c; ``shrink``, δ; ``step_cap``; ``f_star``.

    Assumes interpolation, as Polyak's step does. Source: arXiv 2306.12747 and the authors' code, whose 1e-8 beside
    c_p‖g‖² is left out. `CLRTrust` differs: it begins at c_p = 1, asks for a tenth of the decrease, bounds the loss by
    the largest of the last ten instead of a mean, and remembers no refusals.
    """

    def __init__(
        self,
        params: ParamsT,
        c: float = 0.1,
        decrease: float = 0.5,
        shrink: float = 0.5,
        step_cap: float | None = 10.0,
        f_star: float = 0.0,
    ) -> None:
        if not c > 0:
            raise ValueError(f"c must be positive, got {c}")
        super().__init__(params, step_cap=step_cap, f_star=f_star)
        self.c, self.decrease, self.shrink = c, *_fractions(decrease, shrink)
        self.memory = {"mean": self.number(0), "steps": self.number(0), "refused": torch.tensor(0)}

    def first_step(self, at: FirstOrder) -> Tensor:
        free = stepsizes.clr(at.gap, at.grad_norm_sq, scale=1 / self.c)
        return (free * self.shrink ** int(self.memory["refused"])).clamp(min=SMALLEST)

    def reference(self, gap: Tensor) -> Tensor:
        memory = self.memory
        memory["steps"] = memory["steps"] + 1
        memory["mean"] = memory["mean"] + (gap - memory["mean"]) / memory["steps"]
        return memory["mean"].maximum(gap)

    def found(self, h: Tensor, refused: int) -> None:
        self.memory["refused"] = (self.memory["refused"] + refused - 1).clamp(min=0)


class SLS(LineSearch):
    """SLS: Armijo's rule on the batch, E_B(θ − hg) ≤ E_B − c h‖g‖² (Vaswani et al., NeurIPS 2019, arXiv 1905.09997).

    The search begins at the step before, times γ^{B/N}, where B/N = 1/``steps_per_epoch``: a step may grow by γ in an
    epoch.

    Arguments: ``params``; ``decrease``, c; ``shrink``, their β; ``initial_step``, the step before the first;
    ``growth``, γ. The defaults are those of the authors' code.

    Assumes interpolation: every batch has a common minimum.
    """

    def __init__(
        self,
        params: ParamsT,
        decrease: float = 0.1,
        shrink: float = 0.9,
        initial_step: float = 1.0,
        growth: float = 2.0,
        steps_per_epoch: int = 1,
    ) -> None:
        if not (initial_step > 0 and growth > 0):
            raise ValueError(f"initial_step and growth must be positive, got {initial_step} and {growth}")
        super().__init__(params)
        self.decrease, self.shrink = _fractions(decrease, shrink)
        self.growth = growth ** (1 / steps_per_epoch)
        self.memory["step"] = self.number(initial_step)

    def first_step(self, at: FirstOrder) -> Tensor:
        return self.growth * self.memory["step"]

    def found(self, h: Tensor, refused: int) -> None:
        self.memory["step"] = h.double()


def _fractions(decrease: float, shrink: float) -> tuple[float, float]:
    if not (0 < decrease < 1 and 0 < shrink < 1):
        raise ValueError(f"decrease and shrink must lie between 0 and 1, got {decrease} and {shrink}")
    return decrease, shrink
