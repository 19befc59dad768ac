"""Small data sets, held on the device: images as uint8, which are standardised batch by batch, or plain numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from corridor_exp.datasets.base import balanced_subset, batch_count, epoch_order, mixed_seed, with_wrong_labels
from corridor_exp.errors import RunError
from corridor_exp.objective import Batch
from corridor_exp.objective.batches import DataShape, LocalBatch, Loss
from corridor_exp.objective.ranks import ALONE

PADDING = 4


class Arrays(NamedTuple):
    """N rows x with targets y. Images are N × channels × height × width in uint8, labels are int64."""

    x: np.ndarray
    y: np.ndarray

    def subset(self, size: int | None, key: str) -> Arrays:
        """A fixed subset of `size` rows, balanced over the classes if there are classes."""
        chosen = balanced_subset(self._labels(), size, key)
        return Arrays(self.x[chosen], self.y[chosen])

    def split(self, size: float, key: str) -> tuple[Arrays, Arrays]:
        """All other rows, and `size` balanced rows: the last of each class, because `subset` takes the first.

        A `size` below 1 is a share of the rows.
        """
        count = int(size) if size >= 1 else max(1, round(size * len(self.y)))
        if count >= len(self.y):
            raise RunError(f"{key}={size} leaves nothing to train on: there are {len(self.y)} images")
        held_out = len(self.y) - 1 - balanced_subset(self._labels()[::-1], count, key)
        others = np.setdiff1d(np.arange(len(self.y)), held_out)
        return Arrays(self.x[others], self.y[others]), Arrays(self.x[held_out], self.y[held_out])

    def _labels(self) -> np.ndarray:
        """The classes, or one class for all rows where the targets are none."""
        return self.y if self.y.dtype.kind == "i" else np.zeros(len(self.y), dtype=np.int64)


@dataclass
class Augmentation:
    crop: bool = False
    flip: bool = False


class Resident:
    """Rows on the device, in batches. A subclass turns rows into inputs of the model, in `_inputs`."""

    skipped: Collection[str] = ()
    ranks = ALONE

    def __init__(
        self,
        train: Arrays,
        test: Arrays,
        shape: DataShape,
        loss: Loss,
        *,
        device: torch.device,
        seed: int,
        drop_last: bool,
    ) -> None:
        self.shape, self.loss = shape, loss
        self.seed, self.drop_last, self.device = seed, drop_last, device
        self.x, self.y, self.test_x, self.test_y = (
            torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in (*train, *test)
        )
        self.train_size, self.test_size = len(self.x), len(self.test_x)

    def steps(self, batch_size: int) -> int:
        return batch_count(self.train_size, batch_size, self.drop_last)

    def train_batches(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[Batch]:
        order = epoch_order(self.train_size, self.seed, epoch).to(self.device)
        for number in range(start, self.steps(batch_size)):
            chosen = order[number * batch_size : (number + 1) * batch_size]
            mine = self.ranks.part(len(chosen))
            x = self._inputs(self.x[chosen], (epoch, number))[
                mine
            ]  # the whole batch, because its augmentation is drawn at once
            yield LocalBatch(x, self.y[chosen[mine]], len(chosen))

    def test_batches(self, batch_size: int) -> Iterator[Batch]:
        for start in range(0, self.test_size, batch_size):
            x, y = self.test_x[start : start + batch_size], self.test_y[start : start + batch_size]
            mine = self.ranks.part(len(x))
            yield LocalBatch(self._inputs(x[mine], None), y[mine], len(x))

    def _inputs(self, x: Tensor, place: tuple[int, int] | None) -> Tensor:
        """The model's inputs for rows x of a batch. `place` is (epoch, batch number) in training, None in testing."""
        return x


class ResidentDataset(Resident):
    """Images on the device. Pixels are standardised by the mean and deviation of the training images.

    `held_out` training images (below 1: a share of them) replace the test set, for instance to choose a learning rate
    without the test set.
    `label_noise` is the share of the training labels that are wrong: see `with_wrong_labels`.
    """

    def __init__(
        self,
        train: Arrays,
        test: Arrays,
        *,
        device: torch.device,
        seed: int,
        channels_last: bool = False,
        train_size: int | None = None,
        test_size: int | None = None,
        held_out: float | None = None,
        image_size: int | None = None,
        label_noise: float = 0.0,
        augment: Augmentation | None = None,
        drop_last: bool = False,
    ) -> None:
        self.augmentation = augment or Augmentation()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        classes = int(np.concatenate([train.y, test.y]).max()) + 1
        if held_out:
            train, test = train.split(held_out, "dataset.held_out")
        train = _resized(train.subset(train_size, "dataset.train_size"), image_size)
        train = train._replace(y=with_wrong_labels(train.y, label_noise, classes, seed))
        test = _resized(test.subset(test_size, "dataset.test_size"), image_size)
        shape = DataShape(train.x.shape[1], train.x.shape[2], classes, "small")
        super().__init__(train, test, shape, F.cross_entropy, device=device, seed=seed, drop_last=drop_last)
        self.shift, self.scale = _statistics(self.x)

    def _inputs(self, x: Tensor, place: tuple[int, int] | None) -> Tensor:
        if place and (self.augmentation.crop or self.augmentation.flip):
            x = augmented(x, self.augmentation, mixed_seed("augment", self.seed, *place))
        return x.to(torch.float32, memory_format=self.layout).sub_(self.shift).mul_(self.scale)


class NumericDataset(Resident):
    """Numbers on the device, as float32. `test` may be None: then there are no test metrics.

    `held_out` is as in `ResidentDataset`.

    `standardise` uses the mean and deviation of each feature over the training rows, in float64. A feature that is
    constant there becomes 0 everywhere. `channels_last` has no effect on numbers. `label_noise` is for two classes.
    """

    def __init__(
        self,
        train: Arrays,
        test: Arrays | None,
        shape: DataShape,
        loss: Loss,
        *,
        standardise: bool,
        device: torch.device,
        seed: int,
        channels_last: bool = False,
        train_size: int | None = None,
        test_size: int | None = None,
        held_out: float | None = None,
        label_noise: float = 0.0,
        drop_last: bool = False,
    ) -> None:
        if held_out:
            train, test = train.split(held_out, "dataset.held_out")
        test = (test or Arrays(train.x[:0], train.y[:0])).subset(test_size, "dataset.test_size")
        train = train.subset(train_size, "dataset.train_size")
        train = train._replace(y=with_wrong_labels(train.y, label_noise, 2, seed))
        if standardise:
            varies = np.ptp(train.x, axis=0) > 0  # exact, while the deviation of a constant may be a rounding error
            mean, deviation = train.x.mean(0), np.where(varies, train.x.std(0), np.inf)
            train, test = (Arrays((rows.x - mean) / deviation, rows.y) for rows in (train, test))
        train, test = (Arrays(rows.x.astype(np.float32), _narrow(rows.y)) for rows in (train, test))
        super().__init__(train, test, shape, loss, device=device, seed=seed, drop_last=drop_last)


def _narrow(y: np.ndarray) -> np.ndarray:
    return y.astype(np.float32) if y.dtype.kind == "f" else y


def augmented(x: Tensor, how: Augmentation, seed: int) -> Tensor:
    """A random crop of each image after padding by 4 zero pixels, and a random flip; N × C × H × W, uint8.

    The result is a function of the seed. Zero is black: the usual recipe also pads before it standardises.
    """
    count, channels, height, width = x.shape
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.arange(height).expand(count, -1), torch.arange(width).expand(count, -1)
    shifts = torch.randint(0, 2 * PADDING + 1, (2, count, 1), generator=generator) if how.crop else None
    if how.flip:
        flipped = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(flipped, width - 1 - columns, columns)
    if shifts is not None:
        x = F.pad(x, (PADDING,) * 4)
        rows, columns = rows + shifts[0], columns + shifts[1]
    # One gather does crop and flip. On a CPU this is by far the fastest way.
    pixels = rows.to(x.device)[:, :, None] * x.shape[3] + columns.to(x.device)[:, None, :]
    pixels = pixels.view(count, 1, -1).expand(-1, channels, -1)
    return x.flatten(2).gather(2, pixels).view(count, channels, height, width)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the inverse deviation of each channel, exact in float64: sums over a histogram of 256 values."""
    values = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in x.unbind(1)]).double().cpu()
    weights = counts / counts.sum(1, keepdim=True)
    mean = weights @ values
    deviation = ((weights @ values.square()) - mean.square()).clamp(min=0).sqrt()
    inverse = torch.where(deviation > 0, 1 / deviation, torch.ones_like(deviation))
    return tuple(t.float().view(1, -1, 1, 1).to(x.device) for t in (mean, inverse))  # type: ignore[return-value]


def _resized(arrays: Arrays, size: int | None) -> Arrays:
    if not size or arrays.x.shape[-2:] == (size, size):
        return arrays
    x = torch.from_numpy(np.ascontiguousarray(arrays.x))
    parts = [F.interpolate(p.float(), (size, size), mode="bilinear", antialias=True) for p in x.split(4096)]
    return Arrays(torch.cat([p.round().clamp(0, 255).to(torch.uint8) for p in parts]).numpy(), arrays.y)
