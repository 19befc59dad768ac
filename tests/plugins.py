"""Code as a user might write it: an optimizer, a loss surface, and a function that forgets its `return`."""

from __future__ import annotations

import torch


class Plain(torch.optim.SGD):
    """torch's SGD under another name."""


def forgetful(*args: object) -> None:
    """A factory that returns nothing, for a model or an optimizer."""


class Cone(torch.nn.Module):
    """A network whose output for every image is ‖θ‖: under the loss `mean_output` a corridor."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor([3.0, -1.0, 2.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.theta.norm().expand(len(x), 1)


def cone(*args: object, **kwargs: object) -> Cone:
    """As an option of the group `model`, which may have the keys of another."""
    return Cone()


def mean_output(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return outputs.mean()
