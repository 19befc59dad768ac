"""The VGG-16 with batch norm of step-back, built by its own code: a clone of it must be on PYTHONPATH."""

from __future__ import annotations

from stepback.models.vgg import get_cifar_vgg
from torch import nn


def vgg16(num_classes: int) -> nn.Module:
    """A classifier of three layers with dropout, and He's initial weights by the fan-out."""
    return get_cifar_vgg("vgg16", batch_norm=True, num_classes=num_classes)
