"""DenseNet (Huang et al., CVPR 2017), from torchvision."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn
from torchvision.models import DenseNet

from corridor_exp.models.adapt import adapt, initialise_, stem_of, zero_
from corridor_exp.objective.batches import DataShape


def densenet121(
    shape: DataShape,
    *,
    width: int = 64,
    activation: str = "relu",
    norm: str = "batch",
    stem: str = "auto",
    init: str = "torch",
    zero_init: bool = False,
) -> nn.Module:
    """DenseNet-121 with `width` channels in the stem and a growth rate of half as many."""
    growth = max(1, width // 2)
    original = DenseNet(growth, (6, 12, 24, 16), width, num_classes=shape.outputs)
    features = original.features
    has_small_stem = stem_of(stem, shape) == "small"
    if has_small_stem or shape.channels != 3:
        kernel, stride, padding = (3, 1, 1) if has_small_stem else (7, 2, 3)
        features.conv0 = nn.Conv2d(shape.channels, width, kernel, stride, padding, bias=False)
    if has_small_stem:
        features.pool0 = nn.Identity()
    initialise_(original, init)
    if zero_init:
        zero_(original.classifier)
    # torchvision's own forward calls F.relu, which `adapt` could not replace.
    head = [("relu", nn.ReLU()), ("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
    model = nn.Sequential(OrderedDict([("features", features), *head, ("classifier", original.classifier)]))
    return adapt(model, activation, norm)
