"""scikit-learn's digits: real data that needs no download."""

from __future__ import annotations

from typing import Any

import numpy as np

from corridor_exp.datasets.resident import Arrays, Augmentation, ResidentDataset

TRAINING_IMAGES = 1500


def digits(*, augment: bool = False, **options: Any) -> ResidentDataset:
    """1,797 handwritten digits at 8 × 8 pixels with 17 grey levels (UCI, Alpaydin & Kaynak 1998).

    The first 1,500 are for training, the last 297 (by other writers) for testing. `augment` crops after padding and
    never flips. `options` are those of `ResidentDataset`.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    train = Arrays(images[:TRAINING_IMAGES], labels[:TRAINING_IMAGES])
    test = Arrays(images[TRAINING_IMAGES:], labels[TRAINING_IMAGES:])
    return ResidentDataset(train, test, augment=Augmentation(crop=augment), **options)
