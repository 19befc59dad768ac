"""What a look borrows of a model, and gives back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.utils.checkpoint as checkpointing
from torch import Tensor, nn

from corridor_exp.errors import RunError


class Before(NamedTuple):
    """What the coming `backward` finds beside θ: the states of the generators, and the values of the buffers."""

    generators: list[Tensor]
    buffers: dict[Tensor, Tensor]


@contextmanager
def borrowed(model: nn.Module, values: Mapping[Tensor, Tensor]) -> Iterator[None]:
    """While this is open the model's parameters stand at `values`, or where they stood; afterwards nothing has changed.

    Parameters, buffers and other tensors of the modules stay the same objects, in other memory: copies. So a module
    sees them by every name and reference that it has. A checkpoint, which computes a module again in the backward pass,
    sees them too. Afterwards the tensors have their own memory again, to which nothing was written, and the modules
    their own attributes. No hook of a parameter is called. What a module keeps elsewhere (in a list of numbers, in a
    generator of its own) is not known here, and stays changed.

    Raises `RunError` if a backward pass has filled `p.grad` by itself, so that g lacks that part.
    """
    spaces = [(space, dict(space)) for module in model.modules() for space in _spaces(module)]
    held = {id(t): t for _, before in spaces for t in before.values() if isinstance(t, Tensor)}.values()
    memory = [(t, t.data, values.get(t, t).detach().clone()) for t in held]
    gradients = [(p, p.grad) for p in model.parameters()]
    hooks = [(p, p._backward_hooks) for p, _ in gradients if p._backward_hooks]
    try:
        for p, _ in gradients:
            p.grad = None
        for p, _ in hooks:
            p._backward_hooks = None
        for t, _, copy in memory:
            t.data = copy
        with patch.object(checkpointing, "CheckpointFunction", _NotReentrant):
            yield
        if any(p.grad is not None for p, _ in gradients):
            name = next(name for name, p in model.named_parameters() if p.grad is not None)
            raise RunError(
                f"the model's own backward pass fills {name}.grad, where no look sees it: do not look (probe=none)"
            )
    finally:
        for t, own, _ in memory:
            t.data = own
        for p, gradient in gradients:
            p.grad = gradient
        for p, hook in hooks:
            p._backward_hooks = hook
        for space, before in spaces:
            if isinstance(space, dict):  # those of a compiled script are none, and stay as they are
                space.update(before)
                for name in [name for name in space if name not in before]:
                    del space[name]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """While this is open every module is in evaluation mode; afterwards each is in its own again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.train(modes[0][1])  # a module may do more in it than to set its mode
        for module, mode in modes:
            module.training = mode


def generators(device: torch.device) -> list[Tensor]:
    """The states of the generators that a model on this device draws from."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


@contextmanager
def same_draws(device: torch.device, states: list[Tensor] | None = None) -> Iterator[None]:
    """While this is open random numbers are drawn from these states, or from where they are; then nothing was drawn."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        if states:
            torch.set_rng_state(states[0])
            if device.type == "cuda":
                torch.cuda.set_rng_state(states[1], device)
        yield


def _spaces(module: nn.Module) -> list[dict[str, Any]]:
    """All that a module has by name."""
    return [vars(module), module._parameters, module._buffers, module._modules]


class _NotReentrant:
    """In place of torch's reentrant checkpoint, which gives gradients to `p.grad` alone, and no second ones."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        return checkpointing.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=preserve_rng_state)
