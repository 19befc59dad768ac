"""Gradient descent whose step size is computed anew at every step: the loop that all our optimizers share.

An optimizer says only how long the step is (`step_size`), and, if it must, what it remembers and how it moves.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT
from torch.optim.sgd import sgd

from corridor_exp.optim.contract import GuardedOptimizer
from corridor_exp.theory.vectors import shards, squared_norm


class Group(NamedTuple):
    """The parameters of one group that have a gradient, that gradient, and the group's own factor of the step."""

    multiplier: float
    params: list[Tensor]
    grads: list[Tensor]


class FirstOrder(NamedTuple):
    """The loss and the gradient at θ: what a step size may depend on. The numbers are 0-dim tensors on the device."""

    gap: Tensor  # E − f*
    bound: Tensor | float  # f*
    grad_norm_sq: Tensor  # ‖g‖², or Σ mᵢ‖gᵢ‖² where group i has the multiplier mᵢ
    groups: list[Group]

    @property
    def params(self) -> list[Tensor]:
        return [p for group in self.groups for p in group.params]

    @property
    def grads(self) -> list[Tensor]:
        return [g for group in self.groups for g in group.grads]


class Descent(GuardedOptimizer):
    """θ′ = θ − m h g, h from `step_size`, m a group's own `multiplier` (a key of the group, 1 by default).

    Arguments: ``params``; ``step_cap``, an upper bound of h, or None; ``f_star``, a lower bound of the loss;
    ``maximize``: climb instead, towards an upper bound ``f_star``.

    All on the device, without a host sync. The step m h is left as a 0-dim tensor in ``group["lr"]`` and ‖g‖² in
    ``grad_norm_sq``. If E or ‖g‖² is not finite, or g = 0, the parameters keep their bits and h is 0. ``lr`` is
    written anew at every step and never read: a learning-rate schedule changes nothing, which a warning says.
    `copy.deepcopy` and `pickle` keep all that later steps depend on, but no hooks, as with torch's optimizers.

    Errors: `TypeError` without a loss; `ValueError` for sparse gradients and impossible settings.
    """

    def __init__(
        self, params: ParamsT, *, step_cap: float | None = None, f_star: float = 0.0, maximize: bool = False
    ) -> None:
        if step_cap is not None and not step_cap > 0:
            raise ValueError(f"step_cap must be positive or None, got {step_cap}")
        super().__init__(params, {"lr": torch.zeros(()), "multiplier": 1.0})
        self.step_cap, self.f_star, self.maximize = step_cap, f_star, maximize
        self.grad_norm_sq = torch.zeros(())
        self.memory: dict[str, Tensor] = {}  # numbers that later steps depend on; part of a checkpoint

    def number(self, value: float) -> Tensor:
        """A number to remember: 0-dim, float64, on the parameters' device."""
        return torch.tensor(value, dtype=torch.float64, device=self.param_groups[0]["params"][0].device)

    def step_size(self, at: FirstOrder) -> Tensor:
        """h at θ, before the cap."""
        raise NotImplementedError

    def capped(self, h: Tensor) -> Tensor:
        return h if self.step_cap is None else h.clamp(max=self.step_cap)

    def move(self, params: list[Tensor], grads: list[Tensor], h: Tensor, unsound: Tensor) -> None:
        """θ ← θ − h g for the parameters of a group, or nothing where `unsound` is true."""
        descend(params, grads, h, unsound, self.maximize)

    def remember(self, h: Tensor, sound: Tensor) -> None:
        """Keep in `memory` what later steps need of the step h, which was taken if it is `sound`."""

    @torch.no_grad()
    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        loss: Tensor | float | None = None,
        f_star: Tensor | float | None = None,
    ) -> Any:
        """One update. The loss is ``loss``, or else what ``closure`` returns; a closure may compute the gradient too.

        ``f_star`` takes the place of the optimizer's own in this step: the bound of this batch.
        """
        name = type(self).__name__
        if closure is not None:
            if not callable(closure):
                raise TypeError(f"{name}.step takes a closure first; give it the loss by its name: step(loss=loss)")
            returned = self._evaluate(closure)
            loss = returned if loss is None else loss
        if loss is None:
            raise TypeError(f"{name} needs the loss: optimizer.step(lambda: loss) or optimizer.step(loss=loss)")
        if "initial_lr" in self.param_groups[0]:
            warnings.warn(f"{name} computes its own step: a learning-rate schedule changes nothing", stacklevel=2)
        groups = [_with_gradients(group) for group in self.param_groups]
        grads = groups[0].grads if len(groups) == 1 else [g for group in groups for g in group.grads]
        if not grads:
            return loss
        self.grad_norm_sq = metric = squared_norm(grads)
        if any(group.multiplier != 1 for group in groups):
            metric = torch.stack([m * squared_norm(grads) for m, _, grads in groups if grads]).sum()
        E = torch.as_tensor(loss, device=metric.device).detach().to(metric.dtype)
        bound = self.f_star if f_star is None else f_star
        at = FirstOrder(bound - E if self.maximize else E - bound, bound, metric, groups)
        h = self.capped(self.step_size(at)).to(metric.dtype)
        sound = ((E + metric).abs() + h.abs() < torch.inf) & (metric > 0)  # half of the operations of isfinite
        h, unsound = torch.where(sound, h, 0), ~sound
        for options, group in zip(self.param_groups, groups, strict=True):
            options["lr"] = h if group.multiplier == 1 else group.multiplier * h
            self.move(group.params, group.grads, options["lr"], unsound)
        self.remember(h, sound)
        return loss

    def _evaluate(self, closure: Callable[[], Any]) -> Any:
        """The closure's loss. Warns where it may be that of the last part only of an accumulated gradient.

        A closure that changes a gradient exactly once has added to it. One that computes the whole gradient puts
        another tensor in its place, or zeroes it first.
        """
        before = next((p.grad for group in self.param_groups for p in group["params"] if p.grad is not None), None)
        version = before._version if before is not None else 0
        with torch.enable_grad():
            loss = closure()
        if before is not None and before._version == version + 1:
            warnings.warn(
                "the closure added its gradient to an earlier one; if the loss it returned is not the mean over all "
                "parts of the accumulated gradient, the step is wrong: see docs/step-sizes.md",
                stacklevel=3,
            )
        return loss

    def __getstate__(self) -> dict[str, Any]:
        return attributes(self)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "memory": dict(self.memory)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        stored = state_dict["memory"]
        if stored.keys() != self.memory.keys():
            here, there = (", ".join(sorted(memory)) or "nothing" for memory in (self.memory, stored))
            raise ValueError(f"{type(self).__name__} remembers {here}, and there it remembered {there}")
        super().load_state_dict(state_dict)
        self.memory = {key: value.to(self.memory[key].device, copy=True) for key, value in stored.items()}


def attributes(optimizer: Optimizer) -> dict[str, Any]:
    """All that makes a copy of an optimizer: its data, but no hooks, nor a `step` that a scheduler has wrapped.

    (Torch keeps three attributes, and so loses those of any subclass.)
    """
    return {k: v for k, v in vars(optimizer).items() if not (k.startswith("_optimizer_") or callable(v))}


def descend(params: list[Tensor], grads: list[Tensor], h: Tensor, unsound: Tensor, maximize: bool = False) -> None:
    """θ ← θ − h g in one pass over memory, or nothing at all where `unsound` is true. Never syncs.

    It is torch's fused SGD kernel, which takes the step as a tensor and skips by `found_inf`; 0·NaN would be NaN.
    """
    params, grads = shards(params), shards(grads)
    if any(p.is_complex() for p in params):
        params, grads = ([torch.view_as_real(t) if t.is_complex() else t for t in u] for u in (params, grads))
    sgd(
        params,
        grads,
        [None] * len(params),
        fused=True,
        found_inf=unsound.to(torch.float32),
        lr=h.float() if h.is_cuda else h,  # the CUDA kernel reads a float32, whatever the parameters are
        weight_decay=0,
        momentum=0,
        dampening=0,
        nesterov=False,
        maximize=maximize,
    )


def _with_gradients(group: dict[str, Any]) -> Group:
    """A group's parameters and gradients, laid out alike: the fused CPU kernel does not compare their strides."""
    params = [p for p in group["params"] if p.grad is not None]
    grads = [p.grad for p in params]
    if any(g.layout != torch.strided for g in grads):
        raise ValueError("sparse gradients have no such step; use torch.nn.Embedding(sparse=False)")
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        if g.stride() != p.stride():
            grads[i] = torch.empty_like(p).copy_(g)
    return Group(group["multiplier"], params, grads)
