"""Tables of numbers in two classes, for logistic regression."""

from __future__ import annotations

import os
import zlib
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from corridor_exp.datasets.base import data_path
from corridor_exp.datasets.resident import Arrays, NumericDataset
from corridor_exp.errors import RunError
from corridor_exp.files import regular
from corridor_exp.objective.batches import DataShape


def logistic_loss(outputs: Tensor, y: Tensor) -> Tensor:
    """The mean of log(1 + exp(−ỹz)), for one logit z and labels ỹ = 2y − 1 of ±1; y is 0 or 1.

    With a logit for each class the loss is a function of their difference, and ‖g‖² twice as large.
    """
    return F.binary_cross_entropy_with_logits(outputs.squeeze(1), y.to(outputs.dtype))


def breast_cancer(**options: Any) -> NumericDataset:
    """scikit-learn's breast cancer data: 569 cell samples with 30 features, malignant (0) or benign (1) (UCI 1995).

    Every fifth sample is for testing: 456 and 113. `options` are `NumericDataset`'s.
    """
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    held_out = np.arange(len(x)) % 5 == 4
    return _two_classes(Arrays(x[~held_out], y[~held_out]), Arrays(x[held_out], y[held_out]), **options)


def libsvm(*, root: str, test: str | None = None, **options: Any) -> NumericDataset:
    """Two classes from the text file `root`, and, if there is one, the file `test`, both in LIBSVM's format.

    Of the training file's two labels, such as −1 and 1, 0 and 1 or 1 and 2, the larger is class 1.
    """
    files = [root, test] if test else [root]
    tables, labels = zip(*map(_read, files), strict=True)
    features = max(table.shape[1] for table in tables)
    for file, table in zip(files, tables, strict=True):
        if table.shape[0] * features * table.dtype.itemsize > _memory():
            raise RunError(f"{file} has indices up to {features - 1:,}: its dense table has no place in memory")
        table.resize(table.shape[0], features)
    first = 0 if any(table[:, 0].nnz for table in tables) else 1  # LIBSVM counts from 1, some writers from 0
    classes = np.unique(labels[0])
    for file, found in zip(files, map(np.unique, labels), strict=True):
        if len(classes) != 2 or not np.isin(found, classes).all():
            shown = ", ".join(f"{label:g}" for label in found[:5]) + (", …" if len(found) > 5 else "")
            raise RunError(
                f"{file} has the labels {shown or 'of no sample'}: logistic regression needs two, "
                "the same in training and testing; leave the others out of the file"
            )
    if features <= first:
        raise RunError(f"{root} has no features: each line must be a label and INDEX:VALUE pairs")
    rows = [Arrays(x.toarray()[:, first:], np.searchsorted(classes, y)) for x, y in zip(tables, labels, strict=True)]
    return _two_classes(rows[0], rows[1] if test else None, **options)


def _two_classes(train: Arrays, test: Arrays | None, **options: Any) -> NumericDataset:
    shape = DataShape(train.x.shape[1], 1, 1, "none")
    return NumericDataset(train, test, shape, logistic_loss, standardise=True, **options)


def _read(file: str) -> tuple[Any, np.ndarray]:
    """The sparse matrix of a file, column 0 for index 0, and its labels."""
    from sklearn.datasets import load_svmlight_file

    path = data_path(file)
    try:
        x, y = load_svmlight_file(str(regular(path)), zero_based=True)
    except (OSError, EOFError, zlib.error) as error:  # the latter two of a damaged .gz or .bz2
        reason = getattr(error, "strerror", None) or error
        raise RunError(
            f"cannot read {path.absolute()} ({reason}): point dataset.root, and dataset.test if there is one, at "
            "files in LIBSVM's format, or take dataset=breast_cancer, which needs none"
        ) from error
    except (ValueError, OverflowError) as error:
        raise RunError(
            f"{path.absolute()} is not in LIBSVM's format ({error}): each line must be a label and INDEX:VALUE pairs "
            "with rising indices, such as -1 3:0.5 7:1"
        ) from error
    if not np.isfinite(x.data).all():
        raise RunError(f"{path.absolute()} has values that are not finite: leave them out, which makes them 0")
    return x, y


def _memory() -> int:
    """Of this machine, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
