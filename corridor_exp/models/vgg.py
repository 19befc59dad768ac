"""VGG (Simonyan & Zisserman, ICLR 2015), with torchvision's feature stack."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models.vgg import VGG, cfgs, make_layers

from corridor_exp.errors import UsageError
from corridor_exp.models.adapt import adapt, initialise_, stem_of, zero_
from corridor_exp.objective.batches import DataShape

SMALLEST = 32  # pixels: five halvings leave one of them


def vgg11(shape: DataShape, **options: object) -> nn.Module:
    return _vgg("A", shape, **options)  # type: ignore[arg-type]


def vgg13(shape: DataShape, **options: object) -> nn.Module:
    return _vgg("B", shape, **options)  # type: ignore[arg-type]


def vgg16(shape: DataShape, **options: object) -> nn.Module:
    return _vgg("D", shape, **options)  # type: ignore[arg-type]


def vgg19(shape: DataShape, **options: object) -> nn.Module:
    return _vgg("E", shape, **options)  # type: ignore[arg-type]


def _vgg(
    layers: str,
    shape: DataShape,
    *,
    width: int = 64,
    activation: str = "relu",
    norm: str = "none",
    stem: str = "auto",
    init: str = "kaiming",
    dropout: float = 0.0,
    zero_init: bool = False,
) -> nn.Module:
    """The convolutions of column A, B, D or E of the VGG paper, and a classifier: for small images one linear layer."""
    stem = stem_of(stem, shape)
    if shape.size < SMALLEST:
        raise UsageError(
            f"VGG halves an image five times, which needs {SMALLEST} pixels and not {shape.size}: "
            f"set dataset.image_size={SMALLEST}"
        )
    scaled: list[Any] = [v if isinstance(v, str) else max(1, v * width // 64) for v in cfgs[layers]]
    features = make_layers(scaled, batch_norm=norm != "none")
    if shape.channels != 3:
        features[0] = nn.Conv2d(shape.channels, scaled[0], 3, padding=1)
    model = VGG(features, num_classes=shape.outputs, init_weights=False, dropout=dropout)
    channels = scaled[-2]
    if stem == "small":
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        model.classifier = nn.Sequential(nn.Linear(channels, shape.outputs))
    else:
        model.classifier[0] = nn.Linear(channels * 7 * 7, model.classifier[0].out_features)
    initialise_(model, init)
    if zero_init:
        zero_(model.classifier[-1])
    return adapt(model, activation, norm)
