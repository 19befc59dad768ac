"""dm-haiku's ResNets, `hk.nets.ResNet18` and `ResNet50`, with its default arguments.

They have torchvision's blocks, the stem for ImageNet at every image size, and Haiku's initial weights. Three things
differ from torch: the padding of strided convolutions, the padding of the pool, and the statistics of batch norm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corridor_exp.models.convolution import SameConv2d, same_padding
from corridor_exp.models.resnet import resnet18, resnet50
from corridor_exp.objective.batches import DataShape


def resnet18_haiku(shape: DataShape, *, width: int = 64, activation: str = "relu", norm: str = "batch") -> nn.Module:
    """`hk.nets.ResNet18` with `width` channels in its first stage."""
    return _with_haikus_layers(
        resnet18(shape, width=width, activation=activation, norm=norm, stem="imagenet", init="haiku", zero_init=True)
    )


def resnet50_haiku(shape: DataShape, *, width: int = 64, activation: str = "relu", norm: str = "batch") -> nn.Module:
    """`hk.nets.ResNet50` with `width` channels in the bottlenecks of its first stage."""
    return _with_haikus_layers(
        resnet50(shape, width=width, activation=activation, norm=norm, stem="imagenet", init="haiku", zero_init=True)
    )


def _with_haikus_layers(model: nn.Module) -> nn.Module:
    """The same network with the same parameters. Haiku's layers replace torch's layers where these differ."""
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


class SameMaxPool2d(nn.MaxPool2d):
    """Max-pooling with `SAME` padding of −∞: torch pads the near edge, `ceil_mode` lets windows cross the far edge."""

    kernel_size: int
    stride: int

    def forward(self, input: Tensor) -> Tensor:
        before = [same_padding(size, self.kernel_size, self.stride)[0] for size in input.shape[-2:]]
        return F.max_pool2d(input, self.kernel_size, self.stride, before, ceil_mode=True)


class DebiasedBatchNorm2d(nn.BatchNorm2d):
    """`hk.BatchNorm(decay_rate=0.9)`: batch norm with zero-debiased running averages, of biased variances.

    The buffers hold Haiku's `hidden` averages. These start at 0, and after t updates (`num_batches_tracked`) their
    weights add up to 1 − 0.9ᵗ; evaluation divides by that sum. Before the first update evaluation uses mean 0 and
    variance 1, as torch does. (Haiku uses variance 0, and the outputs of a deep network overflow.)
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
        if values == 1:  # torch refuses a single value, because its variance is 0
            return self(torch.cat([input, input]))[:1]
        # torch averages the unbiased variance, so the buffer is scaled before and after. The scaled copy is a new
        # tensor, because autograd refuses a buffer that has changed since batch norm used it.
        unbiased = variance * (values / (values - 1))
        output = F.batch_norm(
            input, mean, unbiased, self.weight, self.bias, training=True, momentum=self.momentum, eps=self.eps
        )
        torch.mul(unbiased, (values - 1) / values, out=variance)
        updates.add_(1)
        return output
