"""The interface of a data set, the order of its images, and checks that several data sets share."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from corridor_exp.errors import RunError
from corridor_exp.files import ADDRESS
from corridor_exp.objective.batches import Batch, DataShape, Loss
from corridor_exp.objective.ranks import Ranks


class Dataset(Protocol):
    """What the engine needs from a data set."""

    shape: DataShape
    loss: Loss
    train_size: int
    test_size: int
    ranks: Ranks  # each rank gets its part of every batch
    skipped: Collection[str]  # one reason for each unreadable image that was left out on request

    def train_batches(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[Batch]:
        """The standardised batches of an epoch, on the device, from batch number `start` on."""
        ...

    def test_batches(self, batch_size: int) -> Iterator[Batch]:
        """The standardised batches of the test set, on the device; none without a test set."""
        ...

    def steps(self, batch_size: int) -> int:
        """The number of batches in an epoch."""
        ...


def mixed_seed(*parts: int | str) -> int:
    """A 63-bit seed computed from several parts: the same on every platform, unrelated for similar parts."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """A permutation of range(size): the order of the images in an epoch. It depends on seed and epoch alone."""
    generator = torch.Generator().manual_seed(mixed_seed("order", seed, epoch))
    return torch.randperm(size, generator=generator)


def batch_count(size: int, batch_size: int, drop_last: bool) -> int:
    return size // batch_size if drop_last else -(-size // batch_size)


def balanced_subset(labels: np.ndarray, size: int | None, key: str) -> np.ndarray:
    """The sorted indices of a fixed, class-balanced subset of `size` images: all of them if `size` is None.

    It takes the first image of every class, then the second of every class, and so on. Raises `RunError` if there are
    fewer images; the message names `key`.
    """
    if size is None or size == len(labels):
        return np.arange(len(labels))
    if size > len(labels):
        raise RunError(f"{key}={size}: there are only {len(labels)} images")
    by_class = np.argsort(labels, kind="stable")
    ordered = labels[by_class]
    rank = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    chosen = by_class[np.lexsort((ordered, rank))[:size]]
    return np.sort(chosen)


def with_wrong_labels(labels: np.ndarray, share: float, classes: int, seed: int) -> np.ndarray:
    """A copy of the labels in which round(share · N) of them are wrong: each is another class, all equally likely.

    It depends on the arguments alone. A larger share keeps the wrong labels of a smaller one. Raises `RunError` if the
    labels are no classes.
    """
    if not share:
        return labels
    if labels.dtype.kind != "i":
        raise RunError(f"dataset.label_noise={share:g}: these targets are numbers and no classes")
    generator = torch.Generator().manual_seed(mixed_seed("labels", seed))
    chosen = torch.randperm(len(labels), generator=generator).numpy()[: round(share * len(labels))]
    shifts = torch.randint(1, classes, (len(labels),), generator=generator).numpy()
    wrong = labels.copy()
    wrong[chosen] = (labels[chosen] + shifts[chosen]) % classes
    return wrong


def renumbered(labels: np.ndarray, names: Sequence[str], training: Sequence[str], where: object) -> np.ndarray:
    """The labels of a split, with each class numbered as in training.

    `names` and `training` list the class names of the split and of the training set. Raises `RunError` for a class that
    the training set does not have; the message names `where`.
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
        raise RunError(f"{where} names its classes in another order than training, where a name occurs twice")
    table = np.zeros(len(names), dtype=np.int64)
    table[used] = [numbers[names[number]] for number in used]
    return table[labels]


def refuse_one_class(labels: np.ndarray, where: object) -> None:
    """Raise `RunError` if all labels are equal: there is nothing to learn, and the gradient vanishes."""
    if np.ptp(labels) == 0:
        raise RunError(f"the training images of {where} are all of one class: there is nothing to learn")


def data_path(root: str) -> Path:
    """The path that `dataset.root` names, with ~ expanded. Raises `RunError` if no file can have that path."""
    if ADDRESS.match(root):
        raise RunError(f"dataset.root={root} must be a folder of this machine, and no address")
    try:
        path = Path(root).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:
        raise RunError(f"dataset.root={root}: {getattr(error, 'strerror', None) or error}") from error
    return path
