"""Data sets of torch's kind: anything with a length and pairs of an input and a target."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset as Pairs
from tqdm import tqdm

from corridor_exp.datasets.base import Dataset, refuse_one_class
from corridor_exp.datasets.resident import Arrays, NumericDataset, ResidentDataset
from corridor_exp.errors import UsageError
from corridor_exp.objective.batches import DataShape
from corridor_exp.objective.losses import half_squared_error


class Option(Protocol):
    """A choice of a data set: `config.schema.Component`, which this room does not import."""

    def factory(self) -> Callable[..., Any]: ...

    def build(self, **kwargs: Any) -> Any: ...


def build_dataset(option: Option, **run: Any) -> Dataset:
    """The data set of an option. `run` has device, seed and channels_last; the factory gets those that it names.

    The factory returns a data set of ours, or a torch data set, or two as a tuple, for training and testing. One with
    an argument `train`, as torchvision's classes have, is called for both. Raises `UsageError` for anything else.
    """
    named = inspect.signature(option.factory()).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in named.values())
    told = {key: value for key, value in run.items() if key in named or takes_any}
    both = [{"train": True}, {"train": False}] if "train" in named else [{}]
    made = tuple(option.build(**told, **split) for split in both) if len(both) == 2 else option.build(**told)
    if hasattr(made, "train_batches"):
        return cast(Dataset, made)
    parts = made if isinstance(made, tuple) else (made,)
    if len(parts) > 2 or not all(isinstance(part, Pairs) for part in parts):
        raise UsageError(f"dataset._target_ returns {type(made).__name__}: return a torch Dataset, or two as a tuple")
    return _in_memory([_arrays(part) for part in parts], **run)


def _arrays(pairs: Pairs[Any]) -> Arrays:
    """All pairs, read one after the other. Images become N × channels × height × width in uint8."""
    read = [pairs[i] for i in tqdm(range(len(cast(Any, pairs))), "reading", unit="row", delay=1, leave=False)]
    if not read:
        raise UsageError("dataset._target_ returns a data set without rows")
    x = np.stack([np.asarray(x) for x, _ in read])
    y = np.stack([np.asarray(y) for _, y in read])
    if x.ndim == 1 or (x.dtype == np.uint8 and x.ndim == 3):  # a number a row, or grey images
        x = x[:, None]
    elif x.dtype == np.uint8 and x.ndim == 4 and not isinstance(read[0][0], torch.Tensor):  # pictures, as PIL has them
        x = x.transpose(0, 3, 1, 2)
    return Arrays(x, y.astype(np.int64) if y.dtype.kind in "iub" else y.reshape(len(y), -1))


def _in_memory(parts: list[Arrays], device: torch.device, seed: int, channels_last: bool) -> Dataset:
    train, test = parts if len(parts) == 2 else (parts[0], None)
    settings: dict[str, Any] = {"device": device, "seed": seed, "channels_last": channels_last}
    has_classes = train.y.dtype.kind == "i"
    if has_classes:
        if (lowest := min(part.y.min() for part in parts)) < 0:
            raise UsageError(f"dataset._target_ has the label {lowest}: number the classes from 0")
        refuse_one_class(train.y, "dataset._target_")
    if train.x.dtype == np.uint8 and train.x.ndim == 4 and has_classes:
        return ResidentDataset(train, test or Arrays(train.x[:0], train.y[:0]), **settings)
    outputs = 1 + int(max(part.y.max() for part in parts)) if has_classes else train.y.shape[1]
    is_images = train.x.ndim == 4
    size = train.x.shape[2] if is_images else 1
    shape = DataShape(train.x.shape[1], size, outputs, "small" if is_images else "none")
    loss = F.cross_entropy if has_classes else half_squared_error
    return NumericDataset(train, test, shape, loss, standardise=False, **settings)
