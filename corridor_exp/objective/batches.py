"""What data sets, models and the objective share: a batch, a loss, and the shape of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


class DataShape(NamedTuple):
    """What a model has to know about the data: channels, height = width in pixels, outputs, and the stem to use.

    `outputs` is the number of classes, 1 for two classes under the logistic loss, or the number of values to fit. Data
    without images have the stem `none`. A table of n features has n channels and a size of one pixel.
    """

    channels: int
    size: int
    outputs: int
    stem: str  # "small" | "imagenet" | "none"


def length(x: Any) -> int:
    """How many images a batch's inputs hold: of a tuple or a dictionary, its first tensor."""
    if isinstance(x, Tensor):
        return len(x)
    parts = list(x.values()) if isinstance(x, Mapping) else x
    return length(parts[0]) if isinstance(parts, list | tuple) and parts else len(x)


class Batch(NamedTuple):
    x: Tensor
    y: Tensor

    @property
    def images(self) -> int:
        """The number of images in the whole batch, of which this may be one rank's part."""
        return length(self.x)


class LocalBatch(Batch):
    """One rank's part of a batch that has `whole` images in all."""

    whole: int

    def __new__(cls, x: Tensor, y: Tensor, whole: int) -> LocalBatch:
        local = super().__new__(cls, x, y)
        local.whole = whole
        return local

    @property
    def images(self) -> int:
        return self.whole


class Stream(NamedTuple):
    """`size` images that do not fit in memory together. Each call of `batches()` gives the same batches again."""

    size: int
    batches: Callable[[], Iterator[Batch]]
