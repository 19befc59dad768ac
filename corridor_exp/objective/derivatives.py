"""Gradients and their products, by autodiff."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from corridor_exp.errors import RunError

Vector = tuple[Tensor, ...]


def grad(E: Tensor, point: Vector, create_graph: bool = False) -> Vector:
    return torch.autograd.grad(E, point, create_graph=create_graph, materialize_grads=True)


def product(g: Vector, v: Sequence[Tensor], point: Vector) -> Vector:
    """The gradient of ⟨g, v⟩. Where g does not depend on θ, as for a linear loss, it is zero."""
    pairs: list[tuple[Any, Any]] = [(a, b) for a, b in zip(g, v, strict=True) if a.requires_grad]
    if not pairs:
        return tuple(torch.zeros_like(p) for p in point)
    outputs, weights = zip(*pairs, strict=True)
    try:
        _refuse_cut_graph(g)
        return torch.autograd.grad(outputs, point, grad_outputs=weights, materialize_grads=True)
    except RuntimeError as error:
        if "derivative" not in str(error) and "differentiate twice" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise RunError(f"this model has no second derivatives ({reason}), so no Hessian: set probe=none") from error


def _refuse_cut_graph(g: Vector) -> None:
    """Raise `RuntimeError`, as torch does for its own functions, if a `once_differentiable` one cuts g off from θ.

    torch would go on without a word, and Hg would lack a part.
    """
    stack = [t.grad_fn for t in g if t.grad_fn is not None]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node.name().endswith("Error"):
            raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")
        following = [after for after, _ in node.next_functions if after is not None and after not in seen]
        seen.update(following)
        stack.extend(following)
