"""Changes that every network supports: activation, norm, initial weights, zero logits, a stem that suits the data."""

from __future__ import annotations

from collections.abc import Callable, Collection

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
    """The same network, with every ReLU and every batch norm replaced. Both names are values of the `model` keys."""
    for name, child in model.named_children():
        if isinstance(child, nn.ReLU) and activation != "relu":
            setattr(model, name, ACTIVATIONS[activation]())
        elif isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and norm != "batch":
            setattr(model, name, _norm(norm, child.num_features))
        else:
            adapt(child, activation, norm)
    return model


def _norm(norm: str, channels: int) -> nn.Module:
    """The norm layer. `group` has 32 groups (Wu & He 2018), or the next smaller number that divides the channels."""
    if norm == "none":
        return nn.Identity()
    groups = next(n for n in range(min(32, channels), 0, -1) if channels % n == 0)
    return nn.GroupNorm(groups, channels)


def initialise_(model: nn.Module, init: str) -> None:
    """Draw new initial weights for convolutions and linear layers. A unit has fan_in inputs and fan_out outputs.

    `torch`: as the constructors draw them, uniform with variance 1/(3 fan_in). `kaiming`: normal with variance
    2/fan_out, for convolutions only, as in torchvision's networks (He et al. 2015). `kaiming_fan_in`: normal with
    variance 2/fan_in, also for linear layers, as in step-back's networks; no bias is drawn anew. `haiku`: normal with
    variance 1/fan_in, truncated at two deviations, which leaves a variance of 0.774/fan_in, as in the paper's
    framework. Under batch norm smaller weights have the effect of a larger step size.
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
        elif init == "kaiming_fan_in" and isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def zero_(layer: nn.Module) -> None:
    """Set all parameters of a layer to zero. A layer may have none."""
    for p in layer.parameters():
        nn.init.zeros_(p)


def stem_of(stem: str, shape: DataShape, known: Collection[str] = ("small", "imagenet")) -> str:
    """`stem`, or the stem that suits the data if it is `auto`.

    Raises `RunError` if the data are not images, or if the network has no such stem.
    """
    if shape.stem == "none":
        raise RunError("this network needs images, and the data set has none: take model=mlp, or another data set")
    if stem not in ("auto", *known):
        raise RunError(f"model.stem={stem}: this network has only {', '.join(known)}")
    return shape.stem if stem == "auto" else stem
