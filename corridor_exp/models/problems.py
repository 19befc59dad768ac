"""Models for small exact problems: linear in x, without bias or activation."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

from corridor_exp.errors import RunError
from corridor_exp.models.adapt import zero_
from corridor_exp.objective.batches import DataShape


def logistic(shape: DataShape, *, zero_init: bool = False) -> nn.Module:
    """Logistic regression: one logit θᵀx for two classes, without bias, as in Orvieto et al. 2022."""
    if shape.outputs != 1:
        raise RunError(
            f"model=logistic has one logit, for two classes, and this data set needs {shape.outputs} outputs: "
            "take model=linear, or dataset=breast_cancer or libsvm"
        )
    model = deep_linear(shape, depth=0)
    if zero_init:
        zero_(model)
    return model


def deep_linear(shape: DataShape, *, width: int = 10, depth: int = 1) -> nn.Module:
    """W_{depth+1} … W₂W₁x: a product of matrices of rank at most `width`, with torch's usual initialisation."""
    sizes = [shape.channels * shape.size**2, *[width] * depth, shape.outputs]
    layers = OrderedDict[str, nn.Module](flatten=nn.Flatten())
    for i, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        layers[f"W{i}"] = nn.Linear(inputs, outputs, bias=False)
    return nn.Sequential(layers)


def vector(shape: DataShape) -> nn.Module:
    """θ itself, for data whose inputs are square matrices: see `Vector`."""
    return Vector(shape)


class Vector(nn.Module):
    """A vector θ, initially standard normal. Its outputs for a batch of matrices A are the vectors Aθ."""

    def __init__(self, shape: DataShape) -> None:
        super().__init__()
        if shape != DataShape(1, shape.outputs, shape.outputs, "none"):
            raise RunError("model=vector fits dataset=quadratic and no other data set")
        self.theta = nn.Parameter(torch.randn(shape.outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.theta
