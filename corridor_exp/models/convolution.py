"""Convolutions that are fast on small maps, with torch's padding or with JAX's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SmallMapConv2d(nn.Conv2d):
    """A convolution without bias that has the weights and the padding of another one. Maps of 1 or 2 pixels are fast.

    If the map is so small that every output sees every pixel, the convolution is a linear layer and is computed as one.
    With 3×3 kernels these are maps of 1 or 2 pixels, the last ones for 32-pixel images behind a stem with a pool.
    torch's convolutions spend most of their time on the padding there.
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int]

    def __init__(self, of: nn.Conv2d) -> None:
        options = {"stride": of.stride, "padding": of.padding, "bias": False, "device": "meta"}
        super().__init__(of.in_channels, of.out_channels, of.kernel_size, **options)  # type: ignore[arg-type]
        self.weight = of.weight

    def forward(self, input: Tensor) -> Tensor:
        padding = [self._padding(dim, size) for dim, size in enumerate(input.shape[2:])]
        taps = [self._taps(dim, size, *padding[dim]) for dim, size in enumerate(input.shape[2:])]
        if all(first >= 0 and end <= kernel for (first, end), kernel in zip(taps, self.kernel_size, strict=True)):
            return self._linear(input, taps)
        (top, bottom), (left, right) = padding
        if (top, left) == (bottom, right):
            return F.conv2d(input, self.weight, None, self.stride, (top, left))
        return F.conv2d(F.pad(input, (left, right, top, bottom)), self.weight, None, self.stride)

    def _padding(self, dim: int, size: int) -> tuple[int, int]:
        """The number of zeros before and after `size` pixels."""
        assert not isinstance(self.padding, str)
        return self.padding[dim], self.padding[dim]

    def _taps(self, dim: int, size: int, before: int, after: int) -> tuple[int, int]:
        """The range of taps (first, end) that a kernel needs so that every output sees every pixel."""
        last_output = (size + before + after - self.kernel_size[dim]) // self.stride[dim]
        return before - last_output * self.stride[dim], before + size

    def _linear(self, input: Tensor, taps: list[tuple[int, int]]) -> Tensor:
        """The convolution as a matrix. In each dimension, pixel i enters output o through tap before + i − stride·o."""
        weight = self.weight  # outputs, channels, taps, taps
        for dim, (first, end), stride in zip((2, 3), taps, self.stride, strict=True):
            weight = weight.narrow(dim, first, end - first).unfold(dim, input.shape[dim], stride).flip(dim)
        shape = *weight.shape[2:4], self.out_channels
        matrix = weight.permute(2, 3, 0, 4, 5, 1).flatten(3).flatten(0, 2)  # channels come last, in inputs and outputs
        output = F.linear(input.permute(0, 2, 3, 1).flatten(1), matrix).unflatten(1, shape).permute(0, 3, 1, 2)
        return output if input.is_contiguous(memory_format=torch.channels_last) else output.contiguous()


class SameConv2d(SmallMapConv2d):
    """The same with JAX's `SAME` padding. torch pads so for stride 1 only."""

    def _padding(self, dim: int, size: int) -> tuple[int, int]:
        return same_padding(size, self.kernel_size[dim], self.stride[dim])


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """JAX's `SAME` padding before and after `size` pixels: it gives ⌈size/stride⌉ outputs, an odd zero comes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
