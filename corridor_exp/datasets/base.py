"""What the engine asks of a data set, and the order of its images."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from corridor_exp.errors import RunError
from corridor_exp.objective.batches import Batch, DataShape, Loss
from corridor_exp.objective.ranks import Ranks


class Dataset(Protocol):
    shape: DataShape
    loss: Loss
    train_size: int
    test_size: int
    ranks: Ranks  # among which batches are cut: each gets its part of every one
    skipped: Collection[str]  # why some images could not be read and were left out, if that was asked for

    def train_batches(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on, on the device, standardised."""
        ...

    def test_batches(self, batch_size: int) -> Iterator[Batch]: ...

    def steps(self, batch_size: int) -> int:
        """Batches an epoch."""
        ...


def mixed_seed(*parts: int | str) -> int:
    """One 63-bit seed of several parts; nearby parts give unrelated seeds, on every platform the same."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """The order of an epoch: a permutation of range(size), a function of seed and epoch alone."""
    generator = torch.Generator().manual_seed(mixed_seed("order", seed, epoch))
    return torch.randperm(size, generator=generator)


def batch_count(size: int, batch_size: int, drop_last: bool) -> int:
    return size // batch_size if drop_last else -(-size // batch_size)


def balanced_subset(labels: np.ndarray, size: int | None, key: str) -> np.ndarray:
    """Indices, in order, of the same `size` images every time: the first of each class, the second of each, …"""
    if size is None or size == len(labels):
        return np.arange(len(labels))
    if size > len(labels):
        raise RunError(f"{key}={size}: there are only {len(labels)} images")
    by_class = np.argsort(labels, kind="stable")
    ordered = labels[by_class]
    rank = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    chosen = by_class[np.lexsort((ordered, rank))[:size]]
    return np.sort(chosen)


def renumbered(labels: np.ndarray, names: Sequence[str], training: Sequence[str], where: object) -> np.ndarray:
    """The labels of a split in training's numbers: `names` and `training` are the classes by number in either.

    Raises `RunError` for a class that training does not have.
    """
    if list(names) == list(training):
        return labels
    numbers = {name: number for number, name in enumerate(training)}
    used = np.unique(labels)
    unknown = [names[number] for number in used if names[number] not in numbers]
    if unknown:
        raise RunError(
            f"{where} has the class {unknown[0]!r}, which the training set does not have: "
            "train on it too, or leave it out"
        )
    if len(numbers) < len(training):
        raise RunError(f"{where} names its classes in another order than training, which has a name twice")
    table = np.zeros(len(names), dtype=np.int64)
    table[used] = [numbers[names[number]] for number in used]
    return table[labels]


def refuse_one_class(labels: np.ndarray, where: object) -> None:
    """Raise `RunError` where there is nothing to tell apart: any output is right, the loss and its gradient are 0."""
    if np.ptp(labels) == 0:
        raise RunError(f"the training images of {where} are all of one class: there is nothing to learn")


def data_path(root: str) -> Path:
    """The path of `dataset.root`, with ~ replaced. Raises `RunError` where no file can have such a path."""
    try:
        path = Path(root).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:
        raise RunError(f"dataset.root={root}: {getattr(error, 'strerror', None) or error}") from error
    return path
