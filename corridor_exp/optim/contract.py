"""What a run asks of its optimizer, and the adapter that gives it to torch's optimizers and to those of packages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Adagrad, Optimizer, SparseAdam

from corridor_exp.objective import Batch, Objective
from corridor_exp.theory.vectors import is_sharded, squared_norm

StepSize = Tensor | float | None
REFUSED: dict[type[Optimizer], str] = {
    LBFGS: "within a step it evaluates the loss anew at other parameters, and a run gives it once",
    SparseAdam: "it takes sparse gradients, and a run's are dense",
}


class GuardedOptimizer(Optimizer):
    """An optimizer that a run can use: no loss or gradient that is not finite, and no zero gradient, reaches θ.

    `step(loss=E)` makes one update, without a host sync where the optimizer allows it, and leaves ‖g‖² in
    `grad_norm_sq`. What else a run asks has a default here.
    """

    grad_norm_sq: Tensor

    def prepare(self, objective: Objective, batch: Batch) -> None:
        """Measure on the batch of the coming step, before its gradient, what the step needs beyond E and g."""

    def step(self, closure: Callable[[], Any] | None = None, *, loss: Tensor | float | None = None) -> Any:
        """One update. The loss is `loss`, or else what `closure` returns, which may compute the gradient too."""
        raise NotImplementedError

    @property
    def step_taken(self) -> StepSize:
        """The step size h of the last update; None where the optimizer has no such number.

        Under a schedule it is that of the coming update once the schedule has moved on.
        """
        h: StepSize = self.param_groups[0].get("lr")
        return h

    def evaluation_weights(self) -> AbstractContextManager[None]:
        """While this is open θ is what should be tested, such as an average; afterwards it has its own bits again."""
        return nullcontext()


class Adapter(GuardedOptimizer):
    """Any other optimizer of torch, of a package or of a user, as a `GuardedOptimizer`.

    It shares parameters, groups and state with the `optimizer` that it holds. `step_size_of` finds the step size of
    that optimizer; by default it is `group["lr"]`.

    Classes of torch.optim get their fused kernels where there are some: one pass over memory, and they read on the
    device whether to skip an update. Any other optimizer costs a host sync a step, which on a CPU is nothing. An
    optimizer with `eval` is tested with the weights that this method puts in place.

    Errors: `ValueError` for an optimizer that needs what a run does not give.
    """

    def __init__(self, optimizer: Optimizer, step_size_of: Callable[[Any], StepSize] | None = None) -> None:
        for kind, reason in REFUSED.items():
            if isinstance(optimizer, kind):
                raise ValueError(f"cannot train here: {reason}")
        self.optimizer, self.step_size_of = optimizer, step_size_of
        self.grad_norm_sq = torch.zeros(())
        if _is_torchs_own(optimizer):
            for group in optimizer.param_groups:
                if "fused" in group and group["fused"] is None:
                    group["fused"] = _has_fused_kernel(optimizer, group)

    def __getattr__(self, name: str) -> Any:
        """`param_groups`, `state`, `defaults` and the hooks are those of the optimizer that it holds."""
        if name == "optimizer":  # of a copy that is still empty
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    def __getstate__(self) -> dict[str, Any]:
        return {key: vars(self)[key] for key in ("optimizer", "step_size_of", "grad_norm_sq")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state_dict)

    def step(self, closure: Callable[[], Any] | None = None, *, loss: Tensor | float | None = None) -> Any:
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if loss is None:
            raise TypeError("the guard needs the loss: optimizer.step(lambda: loss) or optimizer.step(loss=loss)")
        self.grad_norm_sq = squared_norm([p.grad for p in parameters(self) if p.grad is not None])
        value = torch.as_tensor(loss)  # a number has no `detach`, which some packages call
        n, E = scalar(self.grad_norm_sq), scalar(value.detach())
        sound = (abs(n + E) < math.inf) & (n > 0)
        if isinstance(sound, Tensor) and self._can_skip_by_itself():
            self.optimizer.found_inf = (~sound).to(torch.float32)  # type: ignore[attr-defined]
        elif not sound:
            return loss
        self.optimizer.step(lambda: value)  # type: ignore[arg-type, return-value]
        return loss

    def _can_skip_by_itself(self) -> bool:
        """Whether the kernel can read on the device that it should do nothing.

        Not in SGD's first step: skipped, it would leave a momentum without values.
        """
        group = self.param_groups[0]
        begins = bool(group.get("momentum")) and not self.state
        return _is_torchs_own(self.optimizer) and bool(group.get("fused")) and not begins

    @property
    def step_taken(self) -> StepSize:
        return self.step_size_of(self.optimizer) if self.step_size_of else super().step_taken

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        if not hasattr(self.optimizer, "eval"):
            yield
            return
        with restored(parameters(self)):
            self.optimizer.eval()
            try:
                yield
            finally:
                if hasattr(self.optimizer, "train"):
                    self.optimizer.train()


def guarded(optimizer: Optimizer) -> GuardedOptimizer:
    """The optimizer itself if a run can use it, or else its adapter."""
    return optimizer if isinstance(optimizer, GuardedOptimizer) else Adapter(optimizer)


def parameters(optimizer: Optimizer) -> list[Tensor]:
    """θ: the parameters of all groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def scalar(number: Tensor) -> Any:
    """A 0-dim tensor as something to compare: on a device the tensor itself, so that nothing waits for the device.

    On the host it is Python's number: there a few comparisons of tensors cost a tenth of a small model's step.
    """
    return number.item() if number.is_cpu else number


@contextmanager
def restored(params: Sequence[Tensor]) -> Iterator[None]:
    """While this is open others may write to the parameters; afterwards these have their own bits again."""
    own = [p.detach().clone() for p in params]
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(params), own)


def _is_torchs_own(optimizer: Optimizer) -> bool:
    """Whether it is one of torch.optim itself: a subclass may do more in a step than its kernel could skip."""
    return getattr(torch.optim, type(optimizer).__name__, None) is type(optimizer)


def _has_fused_kernel(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    """Whether torch has a fused kernel for this group: of shards and of complex numbers it has none."""
    if group.get("foreach") or group.get("differentiable"):
        return False
    devices = ("cpu",) if isinstance(optimizer, Adagrad) else ("cpu", "cuda")
    return all(p.is_floating_point() and p.device.type in devices and not is_sharded(p) for p in group["params"])
