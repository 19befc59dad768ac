"""What data sets, models and the objective share: a batch, a loss, and the shape of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


class DataShape(NamedTuple):
    """What a model has to know of the data: channels, height = width in pixels, outputs, and which stem suits it.

    `outputs` is one a class, one in all for two classes under the logistic loss, or the numbers to fit. What is no
    image has the stem `none`; a table of n features is n channels of one pixel.
    """

    channels: int
    size: int
    outputs: int
    stem: str  # "small" | "imagenet" | "none"


class Batch(NamedTuple):
    x: Tensor
    y: Tensor

    @property
    def images(self) -> int:
        """Of the whole batch, of which this may be one rank's part."""
        return len(self.x)


class Part(Batch):
    """One rank's part of a batch of `whole` images."""

    whole: int

    def __new__(cls, x: Tensor, y: Tensor, whole: int) -> Part:
        part = super().__new__(cls, x, y)
        part.whole = whole
        return part

    @property
    def images(self) -> int:
        return self.whole


class Stream(NamedTuple):
    """A set of `size` images too large to be held: `batches()` delivers it, the same parts in the same order."""

    size: int
    batches: Callable[[], Iterator[Batch]]
