"""Small data sets live whole on the device as uint8 and are standardised and augmented there, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from corridor_exp.datasets.base import Images, balanced_subset, batch_count, epoch_order, mixed_seed
from corridor_exp.objective import Batch

PADDING = 4


class Arrays(NamedTuple):
    """Images N × channels × height × width as uint8, labels N as int64."""

    images: np.ndarray
    labels: np.ndarray


@dataclass
class Augmentation:
    crop: bool = False
    flip: bool = False


class ResidentDataset:
    """A data set on the device. Pixels are standardised by the mean and deviation of its training images."""

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
        image_size: int | None = None,
        augment: Augmentation | None = None,
        drop_last: bool = False,
    ) -> None:
        self.seed, self.drop_last, self.device = seed, drop_last, device
        self.augmentation = augment or Augmentation()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.x, self.y = self._put(train, train_size, image_size, "dataset.train_size")
        self.test_x, self.test_y = self._put(test, test_size, image_size, "dataset.test_size")
        self.train_size, self.test_size = len(self.x), len(self.test_x)
        classes = int(max(train.labels.max(), test.labels.max())) + 1
        self.images = Images(self.x.shape[1], self.x.shape[2], classes, "small")
        self.shift, self.scale = _statistics(self.x)

    def _put(self, arrays: Arrays, size: int | None, image_size: int | None, key: str) -> tuple[Tensor, Tensor]:
        chosen = balanced_subset(arrays.labels, size, key)
        x = torch.from_numpy(np.ascontiguousarray(arrays.images[chosen]))
        if image_size and image_size != x.shape[-1]:
            x = _resized(x, image_size)
        return x.to(self.device), torch.from_numpy(arrays.labels[chosen]).to(self.device)

    def steps(self, batch_size: int) -> int:
        return batch_count(self.train_size, batch_size, self.drop_last)

    def train_batches(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[Batch]:
        order = epoch_order(self.train_size, self.seed, epoch).to(self.device)
        for number in range(start, self.steps(batch_size)):
            chosen = order[number * batch_size : (number + 1) * batch_size]
            x = self.x[chosen]
            if self.augmentation.crop or self.augmentation.flip:
                x = augmented(x, self.augmentation, mixed_seed("augment", self.seed, epoch, number))
            yield Batch(self._standardised(x), self.y[chosen])

    def test_batches(self, batch_size: int) -> Iterator[Batch]:
        for x, y in zip(self.test_x.split(batch_size), self.test_y.split(batch_size), strict=True):
            yield Batch(self._standardised(x), y)

    def _standardised(self, x: Tensor) -> Tensor:
        return ((x.float() - self.shift) * self.scale).contiguous(memory_format=self.layout)


def augmented(x: Tensor, how: Augmentation, seed: int) -> Tensor:
    """A random crop of each image after padding by 4 zero pixels, and a random flip; N × C × H × W, uint8.

    A function of the seed. Zero is black, as in the usual recipe, which pads before it standardises.
    """
    count, channels, height, width = x.shape
    generator = torch.Generator().manual_seed(seed)
    if how.crop:
        shifts = torch.randint(0, 2 * PADDING + 1, (2, count), generator=generator).to(x.device)
        rows = shifts[0, :, None] + torch.arange(height, device=x.device)
        columns = shifts[1, :, None] + torch.arange(width, device=x.device)
        padded = F.pad(x, (PADDING,) * 4)
        image, channel = (torch.arange(n, device=x.device) for n in (count, channels))
        x = padded[
            image[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
        ]
    if how.flip:
        flipped = torch.rand(count, generator=generator).to(x.device) < 0.5
        x = torch.where(flipped[:, None, None, None], x.flip(3), x)
    return x


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the inverse deviation of each channel, in float64 and exact: sums over a histogram of 256 values."""
    values = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in x.unbind(1)]).double().cpu()
    weights = counts / counts.sum(1, keepdim=True)
    mean = weights @ values
    deviation = ((weights @ values.square()) - mean.square()).clamp(min=0).sqrt()
    inverse = torch.where(deviation > 0, 1 / deviation, torch.ones_like(deviation))
    return tuple(t.float().view(1, -1, 1, 1).to(x.device) for t in (mean, inverse))  # type: ignore[return-value]


def _resized(x: Tensor, size: int) -> Tensor:
    parts = [F.interpolate(p.float(), (size, size), mode="bilinear", antialias=True) for p in x.split(4096)]
    return torch.cat([p.round().clamp(0, 255).to(torch.uint8) for p in parts])
