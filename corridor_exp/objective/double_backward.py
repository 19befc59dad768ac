"""Functions whose double backward is slow or wrong in torch, with one of ours.

torch puts that of batch norm together of dozens of elementwise operations, by which Hg of a ResNet-18 cost a tenth to a
fifth more on a CPU: docs/performance.md. That of weight norm is wrong: `gradgradcheck` refuses it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function, once_differentiable
from torch.nn.utils.weight_norm import WeightNorm

torchs_batch_norm = F.batch_norm


@contextmanager
def own_double_backward() -> Iterator[None]:
    """While this is open torch's modules call the functions of this file: the same values, and no buffer moves.

    A `TorchFunctionMode` would not reach a checkpoint: `torch.autograd.grad`, which computes it again, leaves the mode.
    """
    with ExitStack() as stack:
        stack.enter_context(patch.object(F, "batch_norm", _batch_norm))
        for room in (torch, sys.modules[WeightNorm.__module__]):
            stack.enter_context(patch.object(room, "_weight_norm", _weight_norm))
        yield


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g·v/‖v‖, with a norm for each index of `dim`."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm`, which is still what does it where this file does not."""
    if training and weight is not None and bias is not None and input.dtype == weight.dtype:
        y: Tensor = _BatchNorm.apply(input, weight, bias, eps)
        return y
    return torchs_batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


class _BatchNorm(Function):
    """y = γx̂ + β with x̂ = (x − μ)r: of each channel, over n elements, μ the mean and r the inverse deviation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        y, mean, inverse = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        return *_Backward.apply(dy, *ctx.saved_tensors, ctx.eps), None


class _Backward(Function):
    """dx = γr(dy − Σdy/n − x̂ Σdy x̂/n), dγ = Σdy x̂, dβ = Σdy, as functions of dy, x and γ."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, eps: float
    ) -> tuple[Tensor, ...]:
        dx, dweight, dbias = _first(dy, x, weight, mean, inverse, eps)
        ctx.save_for_backward(dy, x, weight, mean, inverse, dweight, dbias)
        ctx.eps = eps
        return dx, dweight, dbias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor, a: Tensor, b: Tensor) -> Any:
        """The gradient of ⟨v, dx⟩ + ⟨a, dγ⟩ + ⟨b, dβ⟩, written with e = dy(a − γr Σv x̂/n) − v γr Σdy x̂/n.

        For x it is what batch norm without γ would pass back of e, and the part by way of r, which is along x̂.
        """
        dy, x, weight, mean, r, dweight, dbias = ctx.saved_tensors
        n = x.numel() / len(weight)
        along, v_dot_x, v_sum = _first(v, x, weight, mean, r, ctx.eps)
        e = v * dy
        v_dot_dy = e.sum([0, *range(2, x.dim())])
        slope = a - weight * r * v_dot_x / n
        share = v_dot_dy - (dbias * v_sum + dweight * v_dot_x) / n

        def wide(of_channel: Tensor) -> Tensor:
            return of_channel.view(1, -1, *[1] * (x.dim() - 2))

        ddy = along.addcmul_(x, wide(r * a)).add_(wide(b - mean * r * a))
        torch.mul(dy, wide(slope), out=e).addcmul_(v, wide(-weight * r * dweight / n))
        ddx, _, _ = _first(e, x, torch.ones_like(weight), mean, r, ctx.eps)  # CUDA takes no None
        by_r = -weight * r * r * r * share / n
        ddx.addcmul_(x, wide(by_r)).sub_(wide(mean * by_r))
        return ddy, ddx, r * share, None, None, None


def _first(dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, eps: float) -> Any:
    """dx, Σdy x̂ and Σdy, by torch's own kernel."""
    return torch.ops.aten.native_batch_norm_backward(
        dy, x, weight, None, None, mean, inverse, True, eps, [True, True, True]
    )
