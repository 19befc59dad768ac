"""What a user of the package might write: an optimizer of one's own, and a function without a `return`."""

from __future__ import annotations

import torch


class Plain(torch.optim.SGD):
    """torch's, under another name."""


def forgetful(*args: object) -> None:
    """What is called as a model or an optimizer is, and gives none."""
