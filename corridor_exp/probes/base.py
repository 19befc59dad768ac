"""What the engine asks of a probe, and what a probe may look at."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor

from corridor_exp.datasets.base import Dataset
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import Stream

Quantities = dict[str, Tensor]
ImageChoice = Literal["batch", "fixed", "train"]


class Probe(Protocol):
    """Quantities by the names of `records`, as 0-dim tensors on the objective's device; NaN where there is no answer.

    Constructed with the keys of its option, and `dataset` and `batch_size`.
    """

    def look(self, objective: Objective, batch: Batch) -> Quantities:
        """Measure at θ, before the optimizer's update."""
        ...

    def at_step(self, h: Tensor | float | None) -> Quantities:
        """What only follows once the optimizer has chosen its step h; None if it has no such number."""
        ...


class ProbeData:
    """What a look looks at: the training `batch` of that step, one `fixed` batch, or the whole training set `train`.

    The latter two are those of epoch 0, augmented as they are there; `train` is cut into its batches.
    """

    def __init__(self, choice: ImageChoice, dataset: Dataset | None, batch_size: int) -> None:
        self.choice, self.dataset, self.batch_size = choice, dataset, batch_size
        self.fixed: Batch | None = None

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
        return min(dataset.train_size, dataset.steps(self.batch_size) * self.batch_size)
