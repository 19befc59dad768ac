"""Data sets too large for the device, such as ImageNet. Worker processes decode the images while training runs."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from corridor_exp.datasets.base import (
    balanced_subset,
    batch_count,
    data_path,
    epoch_order,
    mixed_seed,
    refuse_one_class,
    with_wrong_labels,
)
from corridor_exp.datasets.crops import UNREADABLE, central_crop, random_crop
from corridor_exp.datasets.sources import Source, find_source, training_numbers
from corridor_exp.errors import RunError
from corridor_exp.launcher import cores
from corridor_exp.objective import Batch
from corridor_exp.objective.batches import DataShape, LocalBatch, Loss
from corridor_exp.objective.ranks import ALONE
from corridor_exp.signals import StopSignals

log = logging.getLogger(__name__)


def imagefolder(**options: Any) -> FolderDataset:
    """Images in root/train/<class>/* and root/val/<class>/* (or validation/, test/), or in shards: see `sources`.

    `options` are those of `FolderDataset`.
    """
    return FolderDataset(**options)


class FolderDataset:
    """Images in files. Workers deliver uint8 crops; the device standardises them with `mean` and `std`."""

    ranks = ALONE

    def __init__(
        self,
        *,
        root: str,
        device: torch.device,
        seed: int,
        image_size: int,
        workers: int,
        mean: list[float],
        std: list[float],
        augment: bool = True,
        channels_last: bool = False,
        train_size: int | None = None,
        test_size: int | None = None,
        label_noise: float = 0.0,
        drop_last: bool = False,
        skip_corrupt: bool = False,
    ) -> None:
        self.seed, self.drop_last, self.device, self.workers = seed, drop_last, device, workers
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        folder = data_path(root)
        self.skip_corrupt = skip_corrupt
        self.skipped: set[str] = set()
        train, test = find_source(folder, ["train"]), find_source(folder, ["val", "validation", "test"])
        if train is None:
            raise RunError(
                f"{(folder / 'train').absolute()} is missing: point dataset.root at a folder with train/<class>/ and "
                "val/<class>/ images, or parquet or tar shards in train/ and val/ (ImageNet needs its licence "
                "accepted, so there is no download), or take dataset=digits, which needs nothing"
            )
        refuse_one_class(train.labels, train.place)
        if test is not None:
            test.labels = training_numbers(test, train)
        else:
            log.warning("%s has no val or test folder, so there are no test metrics", folder)
        self.train = _Crops(train, image_size, seed if augment else None)
        self.test = _Crops(test, image_size) if test else None
        self.train_indices = balanced_subset(train.labels, train_size, "dataset.train_size")
        self.test_indices = balanced_subset(test.labels, test_size, "dataset.test_size") if test else np.arange(0)
        chosen = train.labels[self.train_indices]
        train.labels = train.labels.copy()
        train.labels[self.train_indices] = with_wrong_labels(chosen, label_noise, len(train.names), seed)
        self.train_size, self.test_size = len(self.train_indices), len(self.test_indices)
        self.shape = DataShape(3, image_size, len(train.names), "imagenet")
        self.loss: Loss = F.cross_entropy
        self.shift, self.scale = (torch.tensor(t).view(1, 3, 1, 1).mul(255).to(device) for t in (mean, std))

    def steps(self, batch_size: int) -> int:
        return batch_count(self.train_size, batch_size, self.drop_last)

    def train_batches(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[Batch]:
        order = self.train_indices[epoch_order(self.train_size, self.seed, epoch).numpy()]
        order = order[: self.steps(batch_size) * batch_size]
        yield from self._batches(self.train, order[start * batch_size :], epoch, batch_size)

    def test_batches(self, batch_size: int) -> Iterator[Batch]:
        if self.test is not None:
            yield from self._batches(self.test, self.test_indices, 0, batch_size)

    def _batches(self, crops: _Crops, order: np.ndarray, epoch: int, batch_size: int) -> Iterator[Batch]:
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        loader: DataLoader[Any] = DataLoader(
            crops,
            batch_sampler=[[(epoch, int(i)) for i in batch[self.ranks.part(len(batch))]] for batch in batches],
            num_workers=min(self.workers, cores()),  # more would wait for each other
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # the default would draw from the global generator and change training
            worker_init_fn=_leave_signals_to_the_parent,
            collate_fn=_collate,
        )
        with _sigterm_blocked():  # forked workers inherit the block, from their first moment on
            loading = iter(loader)
        for batch, (images, corrupt) in zip(batches, _from_living_workers(loading), strict=True):
            if corrupt and not (self.skip_corrupt and self.ranks.size == 1):
                raise RunError(f"{corrupt[0]}; dataset.skip_corrupt=true leaves such files out, on one rank")
            if not images and corrupt:
                raise RunError(f"{corrupt[0]}; no other image of its batch can be read either")
            for error in sorted(set(corrupt) - self.skipped):
                log.warning("left out: %s", error)
            self.skipped.update(corrupt)
            x, y = images or crops.none()  # none if there are fewer images than ranks
            whole = len(x) if self.ranks.size == 1 else len(batch)
            yield LocalBatch(self._standardised(x), y.to(self.device, non_blocking=True), whole)

    def _standardised(self, x: Tensor) -> Tensor:
        """Crops, images × height × width × RGB, as standardised float32: images × RGB × height × width."""
        x = x.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        return x.to(torch.float32, memory_format=self.layout).sub_(self.shift).div_(self.scale)


def _from_living_workers(loading: Iterator[Any]) -> Iterator[Any]:
    """The batches from the workers. Raises `RunError` if a worker was killed, for instance for lack of memory."""
    try:
        yield from loading
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RunError(f"{error}; dataset.workers=0 decodes in the training process") from error


class _Crops(TorchDataset[Any]):
    """Crops by (epoch, number): central without a seed, else random as a function of (seed, epoch, number).

    An unreadable image gives a `Corrupt`.
    """

    def __init__(self, source: Source, size: int, seed: int | None = None) -> None:
        self.source, self.size, self.seed = source, size, seed

    def none(self) -> tuple[Tensor, Tensor]:
        """A batch without images."""
        return torch.empty((0, self.size, self.size, 3), dtype=torch.uint8), torch.empty(0, dtype=torch.int64)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        epoch, number = key
        try:
            data = self.source.read(number)
            if self.seed is None:
                return central_crop(data, self.size), int(self.source.labels[number])
            draw = Random(mixed_seed("crop", self.seed, epoch, number))
            return random_crop(data, self.size, draw), int(self.source.labels[number])
        except UNREADABLE as error:
            # Not raised, because the traceback of the worker would wrap it.
            return Corrupt(f"cannot read the image {self.source.name(number)}: {error}")


class Corrupt(str):
    """The reason why a file could not be read."""


def _collate(items: list[Any]) -> Any:
    """The batch of the readable images, or None, and the reasons for the unreadable ones."""
    good = [item for item in items if not isinstance(item, Corrupt)]
    corrupt = [str(item) for item in items if isinstance(item, Corrupt)]
    return default_collate(good) if good else None, corrupt


@contextmanager
def _sigterm_blocked() -> Iterator[None]:
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _leave_signals_to_the_parent(worker: int) -> None:
    """Make a worker ignore signals to the whole process group, so that it lives until the run has saved.

    The parent also ends its workers by SIGTERM. A worker obeys SIGTERM only if the parent is the sender.
    """
    for number in {*StopSignals.NUMBERS} - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey_the_parent, daemon=True).start()


def _obey_the_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
