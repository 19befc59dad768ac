"""dm-haiku's ResNets, `hk.nets.ResNet18` and `ResNet50`, with its default arguments.

They are torchvision's blocks behind the stem for ImageNet, whatever the size of the images, with Haiku's weights. Three
things are JAX's and Haiku's own: the padding of strided convolutions, that of the pool, and batch norm's statistics.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corridor_exp.models.resnet import resnet18, resnet50
from corridor_exp.objective.batches import DataShape


def resnet18_haiku(shape: DataShape, *, width: int = 64, activation: str = "relu", norm: str = "batch") -> nn.Module:
    """`hk.nets.ResNet18`, `width` channels in its first stage."""
    return _with_haikus_layers(
        resnet18(shape, width=width, activation=activation, norm=norm, stem="imagenet", init="haiku", zero_init=True)
    )


def resnet50_haiku(shape: DataShape, *, width: int = 64, activation: str = "relu", norm: str = "batch") -> nn.Module:
    """`hk.nets.ResNet50`, `width` channels in the bottlenecks of its first stage."""
    return _with_haikus_layers(
        resnet50(shape, width=width, activation=activation, norm=norm, stem="imagenet", init="haiku", zero_init=True)
    )


def _with_haikus_layers(model: nn.Module) -> nn.Module:
    """The same network and parameters, with Haiku's layers in the place of torch's where they differ."""
    for name, child in model.named_children():
        layer: nn.Module
        if isinstance(child, nn.Conv2d):
            layer = SameConv2d(child)
        elif isinstance(child, nn.MaxPool2d):
            layer = SameMaxPool2d(child.kernel_size, child.stride, ceil_mode=True)
        elif isinstance(child, nn.BatchNorm2d):
            layer = DebiasedBatchNorm2d(child.num_features)
            layer.weight, layer.bias = child.weight, child.bias
        else:
            layer = _with_haikus_layers(child)
        setattr(model, name, layer)
    return model


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """JAX's `SAME`: zeros before and after `size` pixels that give ⌈size/stride⌉ outputs, the odd one after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution, without bias, of the weights of another, padded `SAME`; torch has that for stride 1 only.

    On maps so small that every output sees every pixel it is computed as the linear layer that it is: under 3×3 on 1
    and 2 pixels, as the last maps of a 32-pixel image have. torch's convolutions spend their time on the padding there.
    """

    def __init__(self, of: nn.Conv2d) -> None:
        super().__init__(of.in_channels, of.out_channels, of.kernel_size[0], of.stride[0], bias=False, device="meta")
        self.weight = of.weight

    def forward(self, input: Tensor) -> Tensor:
        shapes = list(zip(input.shape[2:], self.kernel_size, self.stride, strict=True))
        taps = [_taps(*shape) for shape in shapes]
        if all(first >= 0 and end <= kernel for (first, end), kernel in zip(taps, self.kernel_size, strict=True)):
            return self._linear(input, taps)
        (top, bottom), (left, right) = (same_padding(*shape) for shape in shapes)
        if (top, left) == (bottom, right):
            return F.conv2d(input, self.weight, None, self.stride, (top, left))
        return F.conv2d(F.pad(input, (left, right, top, bottom)), self.weight, None, self.stride)

    def _linear(self, input: Tensor, taps: list[tuple[int, int]]) -> Tensor:
        """Along each dimension the weight from pixel i to output o is tap before + i − stride·o."""
        weight = self.weight  # outputs, channels, taps, taps
        for dim, (first, end), stride in zip((2, 3), taps, self.stride, strict=True):
            weight = weight.narrow(dim, first, end - first).unfold(dim, input.shape[dim], stride).flip(dim)
        shape = *weight.shape[2:4], self.out_channels
        matrix = weight.permute(2, 3, 0, 4, 5, 1).flatten(3).flatten(0, 2)  # of channels last, on both sides
        output = F.linear(input.permute(0, 2, 3, 1).flatten(1), matrix).unflatten(1, shape).permute(0, 3, 1, 2)
        return output if input.is_contiguous(memory_format=torch.channels_last) else output.contiguous()


def _taps(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """From which tap to which a kernel has to reach for every output to see every pixel."""
    before, _ = same_padding(size, kernel, stride)
    return before - (-(-size // stride) - 1) * stride, before + size


class SameMaxPool2d(nn.MaxPool2d):
    """Max-pooling padded `SAME` with −∞: torch pads the near edge, and `ceil_mode` lets windows cross the far one."""

    kernel_size: int
    stride: int

    def forward(self, input: Tensor) -> Tensor:
        before = [same_padding(size, self.kernel_size, self.stride)[0] for size in input.shape[-2:]]
        return F.max_pool2d(input, self.kernel_size, self.stride, before, ceil_mode=True)


class DebiasedBatchNorm2d(nn.BatchNorm2d):
    """`hk.BatchNorm(decay_rate=0.9)`: batch norm whose averages are zero-debiased, of biased variances.

    The buffers hold Haiku's `hidden` averages, which start at 0 and have weights that add up to 1 − 0.9ᵗ after t
    updates (`num_batches_tracked`); evaluation divides by that sum. Before the first update it takes mean 0 and
    variance 1, as torch does. (Haiku takes variance 0, and a deep network's outputs overflow.)
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def reset_running_stats(self) -> None:
        super().reset_running_stats()
        self.running_var.zero_()

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        mean, variance, updates = self.running_mean, self.running_var, self.num_batches_tracked
        if not self.training:
            unseen = updates == 0
            weight = 1 - (1 - self.momentum) ** updates.double() + unseen
            mean, variance = mean / weight, (variance + unseen) / weight
            return F.batch_norm(input, mean, variance, self.weight, self.bias, eps=self.eps)

        values = input.numel() // self.num_features
        if values == 1:  # torch refuses a single one, whose variance is 0
            return self(torch.cat([input, input]))[:1]
        # torch averages the unbiased variance: in these units that is the biased one. A buffer of its own, since
        # autograd remembers which one batch norm was given, and refuses it if it has changed.
        unbiased = variance * (values / (values - 1))
        output = F.batch_norm(
            input, mean, unbiased, self.weight, self.bias, training=True, momentum=self.momentum, eps=self.eps
        )
        torch.mul(unbiased, (values - 1) / values, out=variance)
        updates.add_(1)
        return output
