"""Functions whose double backward is slow, wrong or missing in torch, with another.

torch computes that of a convolution by convolutions whose kernels are as large as the maps, and that of batch norm by
dozens of elementwise operations. Hg of a ResNet-18 takes a tenth longer by each of them on a CPU: docs/performance.md.
That of weight norm is wrong: `gradgradcheck` refuses it. The fused kernels of attention have none, and torch's plain
kernel has one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function, once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.weight_norm import WeightNorm

torchs_batch_norm, torchs_conv2d = F.batch_norm, F.conv2d
Options = tuple[list[int], list[int], list[int], bool, list[int], int]  # stride to groups, as aten takes them


@contextmanager
def own_double_backward() -> Iterator[None]:
    """While this is open torch's modules call what has a double backward: the same values, and no buffer moves.

    A `TorchFunctionMode` would not reach a checkpoint: `torch.autograd.grad`, which computes it again, leaves the mode.
    """
    with ExitStack() as stack:
        stack.enter_context(patch.object(F, "batch_norm", _batch_norm))
        stack.enter_context(patch.object(F, "conv2d", _conv2d))
        for room in (torch, sys.modules[WeightNorm.__module__]):
            stack.enter_context(patch.object(room, "_weight_norm", _weight_norm))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Like `F.conv2d`. An image without a batch, or a padding given as a word, goes to torch's own function."""
    if isinstance(padding, str) or input.dim() != 4:
        return torchs_conv2d(input, weight, bias, stride, padding, dilation, groups)
    options = (
        *([n] * 2 if isinstance(n, int) else list(n) for n in (stride, padding, dilation)),
        False,
        [0, 0],
        groups,
    )
    y: Tensor = _Convolution.apply(input, weight, bias, options)
    return y


class _Convolution(Function):
    """y = x ∗ w + b."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options = options
        return torch.convolution(x, weight, bias, *options)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        return *_ConvolutionBackward.apply(dy, *ctx.saved_tensors, ctx.options, ctx.needs_input_grad[:3]), None


class _ConvolutionBackward(Function):
    """dx, linear in dy and w; dw, linear in dy and x; db = Σdy. None where it is not wanted."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, x: Tensor, weight: Tensor, options: Options, wanted: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(dy, x, weight)
        ctx.options = options
        ctx.set_materialize_grads(False)
        return _convolution_backward(dy, x, weight, options, wanted)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor | None, a: Tensor | None, b: Tensor | None) -> Any:
        """The gradient of ⟨v, dx⟩ + ⟨a, dw⟩ + ⟨b, db⟩, which is ⟨dy, v ∗ w + x ∗ a + b⟩."""
        (dy, x, weight), options = ctx.saved_tensors, ctx.options
        a = torch.zeros_like(weight) if a is None and b is not None else a
        ddy = None if a is None else torch.convolution(x, a, b, *options)
        ddx = dweight = None
        if v is not None:
            of_v = torch.convolution(v, weight, None, *options)
            ddy = of_v if ddy is None else ddy.add_(of_v)
            _, dweight, _ = _convolution_backward(dy, v, weight, options, [False, ctx.needs_input_grad[2], False])
        if a is not None:
            ddx, _, _ = _convolution_backward(dy, x, a, options, [ctx.needs_input_grad[1], False, False])
        return ddy, ddx, dweight, None, None


def _convolution_backward(dy: Tensor, x: Tensor, weight: Tensor, options: Options, wanted: Sequence[bool]) -> Any:
    """dx, dw and db, by torch's own kernels."""
    biases = [len(weight)] if wanted[2] else None
    return torch.ops.aten.convolution_backward(dy, x, weight, biases, *options, wanted)


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
    """Like `F.batch_norm`. Evaluation, no weights, or weights of another type go to torch's own function."""
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
