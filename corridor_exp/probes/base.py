"""The interface of a probe, and the data that a probe measures on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from torch import Tensor

from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import Stream

if TYPE_CHECKING:
    from corridor_exp.datasets.base import Dataset

Quantities = dict[str, Tensor]
ImageChoice = Literal["batch", "fixed", "train"]


class Probe(Protocol):
    """Measures quantities, by the names in `records`, as 0-dim tensors. NaN means that there is no answer.

    The constructor takes the keys of the probe's option, and `dataset` and `batch_size`.
    """

    def look(self, objective: Objective, batch: Batch) -> Quantities:
        """The quantities at θ, before the optimizer's update."""
        ...

    def at_step(self, h: Tensor | float | None) -> Quantities:
        """The quantities that depend on the optimizer's step h, which is None if the optimizer has no step size."""
        ...


class ProbeData:
    """The data that a probe measures on: the training `batch` of that step, a `fixed` batch, or all data, `train`.

    `fixed` is the first batch of epoch 0. `train` is all batches of epoch 0. Both have the augmentation of that epoch.
    """

    def __init__(self, choice: ImageChoice, dataset: Dataset | None, batch_size: int) -> None:
        self.choice, self.dataset, self.batch_size = choice, dataset, batch_size
        self.fixed: Batch | None = None
        self.readable: int | None = None

    def of(self, batch: Batch) -> Batch | Stream:
        if self.choice == "batch" or self.dataset is None:
            return batch
        dataset = self.dataset
        if self.choice == "train":
            return Stream(self._size(dataset), lambda: dataset.train_batches(0, self.batch_size))
        if self.fixed is None:
            self.fixed = next(iter(dataset.train_batches(0, self.batch_size)))
        return self.fixed

    def _size(self, dataset: Dataset) -> int:
        """The images of an epoch. Where some may be unreadable, they are counted once, by reading them."""
        if self.readable is None and getattr(dataset, "skip_corrupt", False):
            self.readable = sum(batch.images for batch in dataset.train_batches(0, self.batch_size))
        return self.readable or min(dataset.train_size, dataset.steps(self.batch_size) * self.batch_size)
