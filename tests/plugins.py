"""Code as a user might write it: an optimizer, and a function that forgets its `return`."""

from __future__ import annotations

import torch


class Plain(torch.optim.SGD):
    """torch's SGD under another name."""


def forgetful(*args: object) -> None:
    """A factory that returns nothing, for a model or an optimizer."""
