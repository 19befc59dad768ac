"""ResNets (He et al., CVPR 2016), made of torchvision's blocks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1

from corridor_exp.models.adapt import adapt, initialise_, stem_of, zero_
from corridor_exp.models.convolution import SmallMapConv2d
from corridor_exp.objective.batches import DataShape

STEMS = {"small": (3, 1), "pooled": (3, 2), "imagenet": (7, 2)}  # kernel and stride of the first convolution


def resnet18(shape: DataShape, **options: object) -> ResNet:
    return ResNet(BasicBlock, (2, 2, 2, 2), shape, **options)  # type: ignore[arg-type]


def resnet34(shape: DataShape, **options: object) -> ResNet:
    return ResNet(BasicBlock, (3, 4, 6, 3), shape, **options)  # type: ignore[arg-type]


def resnet50(shape: DataShape, **options: object) -> ResNet:
    return ResNet(Bottleneck, (3, 4, 6, 3), shape, **options)  # type: ignore[arg-type]


def resnet20(shape: DataShape, *, width: int = 16, **options: object) -> ResNet:
    """The network of He et al. for CIFAR-10: three stages, whose shortcuts skip pixels and pad channels with zeros."""
    return ResNet(BasicBlock, (3, 3, 3), shape, width=width, padded=True, **options)  # type: ignore[arg-type]


class ResNet(nn.Module):
    """Stages of blocks, four in most networks. The first stage has `width` channels, each next stage twice as many.

    With width 64 and the ImageNet stem the parameters have torchvision's names and shapes. The small stem is a 3×3
    convolution without pooling, for images of about 32 pixels. The pooled stem is a 3×3 convolution of stride 2 and the
    ImageNet stem's pool, so its maps have the sizes of the ImageNet stem's. `zero_init` zeroes the logits layer, so
    that the loss starts at exactly ln C, and the last norm scale of each bottleneck block, as Haiku does. Haiku leaves
    basic blocks. Where the maps change, a shortcut is a 1×1 convolution, or has no parameters with `padded`.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, ...],
        shape: DataShape,
        *,
        width: int = 64,
        activation: str = "relu",
        norm: str = "batch",
        stem: str = "auto",
        init: str = "torch",
        zero_init: bool = False,
        padded: bool = False,
    ) -> None:
        super().__init__()
        stem = stem_of(stem, shape, STEMS)
        kernel, stride = STEMS[stem]
        self.conv1 = nn.Conv2d(shape.channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if stem == "small" else nn.MaxPool2d(3, 2, 1)
        channels = width
        self.stages = [f"layer{i + 1}" for i in range(len(depths))]  # torchvision's names
        for i, (name, depth) in enumerate(zip(self.stages, depths, strict=True)):
            planes = width * 2**i
            self.add_module(name, _stage(block, channels, planes, depth, stride=1 if i == 0 else 2, padded=padded))
            channels = planes * block.expansion
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, shape.outputs)
        initialise_(self, init)
        adapt(self, activation, norm)
        _fast_on_small_maps(self)
        if zero_init:
            zero_(self.fc)
            for module in self.modules():
                if isinstance(module, Bottleneck):
                    zero_(module.bn3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _fast_on_small_maps(model: nn.Module) -> None:
    """Replace the convolutions of torchvision's blocks. Parameters, their names and the function stay."""
    for name, child in model.named_children():
        if isinstance(child, nn.Conv2d):
            setattr(model, name, SmallMapConv2d(child))
        else:
            _fast_on_small_maps(child)


def _stage(
    block: type[BasicBlock] | type[Bottleneck], channels: int, planes: int, depth: int, stride: int, padded: bool
) -> nn.Sequential:
    out = planes * block.expansion
    shortcut: nn.Module | None = None
    if padded and channels != out:
        shortcut = PaddedShortcut(out - channels, stride)
    elif stride != 1 or channels != out:
        shortcut = nn.Sequential(conv1x1(channels, out, stride), nn.BatchNorm2d(out))
    first = block(channels, planes, stride, shortcut)
    return nn.Sequential(first, *(block(out, planes) for _ in range(depth - 1)))


class PaddedShortcut(nn.Module):
    """Every `stride`-th pixel, with `added` channels of zeros, half of them before the others (He et al., option A)."""

    def __init__(self, added: int, stride: int) -> None:
        super().__init__()
        self.added, self.stride = added, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added // 2, self.added - self.added // 2)
        )
