"""What every network can be asked for: another activation, another norm, zero logits, a stem that suits the data."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from corridor_exp.errors import RunError
from corridor_exp.objective.batches import DataShape

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


def adapt(model: nn.Module, activation: str, norm: str) -> nn.Module:
    """The same network with every ReLU and every batch norm replaced, by name of the `model` keys."""
    for name, child in model.named_children():
        if isinstance(child, nn.ReLU) and activation != "relu":
            setattr(model, name, ACTIVATIONS[activation]())
        elif isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and norm != "batch":
            setattr(model, name, _norm(norm, child.num_features))
        else:
            adapt(child, activation, norm)
    return model


def _norm(norm: str, channels: int) -> nn.Module:
    """Group norm with 32 groups (Wu & He 2018), or the most that divide the channels."""
    if norm == "none":
        return nn.Identity()
    groups = next(n for n in range(min(32, channels), 0, -1) if channels % n == 0)
    return nn.GroupNorm(groups, channels)


def initialise_(model: nn.Module, init: str) -> None:
    """Draw the weights of convolutions and linear layers anew, unless `init` is `torch`: what their constructors do.

    Variances, for fan_in inputs and fan_out outputs of a unit: `torch` 1/(3 fan_in), uniform; `kaiming` 2/fan_out,
    normal, for convolutions only, as torchvision's networks have it (He et al. 2015); `haiku` 0.774/fan_in, a normal
    of 1/fan_in cut at two deviations, as the paper's framework has it. Under batch norm smaller weights make a given
    step size larger.
    """
    for layer in model.modules():
        if init == "haiku" and isinstance(layer, nn.Conv2d | nn.Linear):
            deviation = layer.weight[0].numel() ** -0.5
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif init == "kaiming" and isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def zero_(layer: nn.Module) -> None:
    """Set a layer's weights and biases to zero; a layer without any is left alone."""
    for p in layer.parameters():
        nn.init.zeros_(p)


def stem_of(stem: str, shape: DataShape) -> str:
    """The stem that a convolutional network was asked for, or the one that suits the images."""
    if shape.stem == "none":
        raise RunError("this network needs images, and the data set has none: take model=mlp, or another data set")
    return shape.stem if stem == "auto" else stem
