"""Models of small exact problems: linear in x, without bias or activation."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

from corridor_exp.errors import RunError
from corridor_exp.models.adapt import zero_
from corridor_exp.objective.batches import DataShape


def logistic(images: DataShape, *, zero_init: bool = False) -> nn.Module:
    """One logit θᵀx for two classes. No bias, as in Orvieto et al. 2022, so that `l2` is on weights alone."""
    if images.outputs != 1:
        raise RunError(
            f"model=logistic has one logit, for two classes, and this data set needs {images.outputs} outputs: "
            "take model=linear, or dataset=breast_cancer or libsvm"
        )
    model = deep_linear(images, depth=0)
    if zero_init:
        zero_(model)
    return model


def deep_linear(images: DataShape, *, width: int = 10, depth: int = 1) -> nn.Module:
    """W_{depth+1} … W₂W₁x, a matrix of rank `width` at most, with torch's usual initialisation."""
    sizes = [images.channels * images.size**2, *[width] * depth, images.outputs]
    layers = OrderedDict[str, nn.Module](flatten=nn.Flatten())
    for i, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        layers[f"W{i}"] = nn.Linear(inputs, outputs, bias=False)
    return nn.Sequential(layers)


def vector(images: DataShape) -> nn.Module:
    """θ itself, for data whose inputs are square matrices."""
    return Vector(images)


class Vector(nn.Module):
    """θ, standard normal at first; its outputs for a batch of matrices A are the vectors Aθ."""

    def __init__(self, images: DataShape) -> None:
        super().__init__()
        if images != DataShape(1, images.outputs, images.outputs, "none"):
            raise RunError("model=vector is a point of the space of dataset=quadratic, and fits no other data set")
        self.theta = nn.Parameter(torch.randn(images.outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.theta
