"""Fully connected networks."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from corridor_exp.models.adapt import adapt, zero_
from corridor_exp.objective.batches import DataShape


def mlp(
    shape: DataShape,
    *,
    width: int = 256,
    depth: int = 2,
    activation: str = "relu",
    norm: str = "none",
    zero_init: bool = False,
) -> nn.Module:
    """An MLP: `depth` hidden layers of `width` units on flattened pixels, with torch's usual initialisation."""
    sizes = [shape.channels * shape.size**2, *[width] * depth]
    layers = OrderedDict[str, nn.Module](flatten=nn.Flatten())
    for i, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        layers[f"hidden{i}"] = nn.Linear(inputs, outputs)
        if norm != "none":
            layers[f"norm{i}"] = nn.BatchNorm1d(outputs)
        layers[f"act{i}"] = nn.ReLU()
    layers["logits"] = nn.Linear(sizes[-1], shape.outputs)
    if zero_init:
        zero_(layers["logits"])
    return adapt(nn.Sequential(layers), activation, norm)


def linear(shape: DataShape, *, zero_init: bool = False) -> nn.Module:
    """Softmax regression: one linear layer."""
    return mlp(shape, depth=0, zero_init=zero_init)
