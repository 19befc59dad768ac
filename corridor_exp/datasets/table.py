"""Tables of numbers with two classes, for logistic regression."""

from __future__ import annotations

import os
import zlib
from typing import Any

import numpy as np

from corridor_exp.datasets.base import data_path
from corridor_exp.datasets.resident import Arrays, NumericDataset
from corridor_exp.errors import RunError
from corridor_exp.files import regular
from corridor_exp.objective.batches import DataShape
from corridor_exp.objective.losses import logistic_loss


def breast_cancer(**options: Any) -> NumericDataset:
    """scikit-learn's breast cancer data: 569 cell samples with 30 features, malignant (0) or benign (1) (UCI 1995).

    Every fifth sample is for testing: 456 and 113 samples. `options` are those of `NumericDataset`.
    """
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    held_out = np.arange(len(x)) % 5 == 4
    return _two_classes(Arrays(x[~held_out], y[~held_out]), Arrays(x[held_out], y[held_out]), **options)


def libsvm(*, root: str, test: str | None = None, **options: Any) -> NumericDataset:
    """Two classes from text files in LIBSVM's format: `root` for training, and `test` unless it is None.

    The labels may be −1 and 1, 0 and 1, 1 and 2, or any other two. The larger one is class 1.
    """
    files = [root, test] if test else [root]
    tables, labels = zip(*map(_read, files), strict=True)
    features = max(table.shape[1] for table in tables)
    for file, table in zip(files, tables, strict=True):
        if table.shape[0] * features * table.dtype.itemsize > _memory():
            raise RunError(f"{file} has indices up to {features - 1:,}: its dense table does not fit in memory")
        table.resize(table.shape[0], features)
    first = 0 if any(table[:, 0].nnz for table in tables) else 1  # LIBSVM counts features from 1, some programs from 0
    classes = np.unique(labels[0])
    for file, found in zip(files, map(np.unique, labels), strict=True):
        if len(classes) != 2 or not np.isin(found, classes).all():
            shown = ", ".join(f"{label:g}" for label in found[:5]) + (", …" if len(found) > 5 else "")
            raise RunError(
                f"{file} has the labels {shown or '(none)'}: logistic regression needs two, "
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
    """The sparse matrix of a file, whose column 0 has index 0, and the labels."""
    from sklearn.datasets import load_svmlight_file

    path = data_path(file)
    try:
        x, y = load_svmlight_file(str(regular(path)), zero_based=True)
    except (OSError, EOFError, zlib.error) as error:  # the latter two come from a damaged .gz or .bz2
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
    """The memory of this machine, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
