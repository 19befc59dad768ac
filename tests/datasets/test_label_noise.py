"""`dataset.label_noise`: which labels are wrong, and how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from corridor_exp import datasets
from corridor_exp.datasets.base import with_wrong_labels
from corridor_exp.errors import RunError
from tests.datasets.test_labels import ALL, as_folders, of_files

CPU = {"device": torch.device("cpu"), "seed": 3}
CLEAN = np.random.default_rng(0).integers(0, 10, 5000)


def test_the_share_is_exact_and_the_other_classes_are_equally_likely() -> None:
    noisy = with_wrong_labels(CLEAN, 0.4, 10, seed=1)
    shifts = (noisy - CLEAN) % 10
    assert (shifts > 0).sum() == 2000
    assert noisy.min() >= 0
    assert noisy.max() <= 9
    counts = np.bincount(shifts, minlength=10)[1:]
    assert np.square(counts - 2000 / 9).sum() / (2000 / 9) < 26.1  # χ² with 8 degrees of freedom, p = 0.001


def test_it_depends_on_the_seed_alone_and_a_larger_share_keeps_the_wrong_labels_of_a_smaller_one() -> None:
    small, large = (with_wrong_labels(CLEAN, share, 10, seed=1) for share in (0.1, 0.3))
    np.testing.assert_array_equal(small, with_wrong_labels(CLEAN, 0.1, 10, seed=1))
    assert (small != with_wrong_labels(CLEAN, 0.1, 10, seed=2)).any()
    wrong = small != CLEAN
    np.testing.assert_array_equal(large[wrong], small[wrong])


def train_labels(data: datasets.Dataset, epoch: int, batch_size: int) -> dict[bytes, int]:
    """The label of each training image."""
    batches = data.train_batches(epoch, batch_size)
    return {x.numpy().tobytes(): int(y) for batch in batches for x, y in zip(batch.x, batch.y, strict=True)}


def test_an_image_keeps_its_label_in_every_epoch_and_batch_and_the_test_labels_are_right() -> None:
    noisy, clean = datasets.digits(label_noise=0.2, **CPU), datasets.digits(**CPU)
    assert (noisy.y != clean.y).sum() == 300
    assert torch.equal(noisy.test_y, clean.test_y)
    assert torch.equal(noisy.x, clean.x)
    assert train_labels(noisy, 0, 100) == train_labels(noisy, 5, 7)


def test_of_two_classes_the_other_one_is_taken() -> None:
    noisy, clean = datasets.breast_cancer(label_noise=0.25, **CPU), datasets.breast_cancer(**CPU)
    assert (noisy.y == 1 - clean.y).sum() == 114
    assert torch.equal(noisy.test_y, clean.test_y)


def test_a_tree_of_images_has_wrong_labels_in_training_alone(tmp_path: Path) -> None:
    as_folders(tmp_path, "train", ALL)
    as_folders(tmp_path, "val", ALL)
    clean, noisy = of_files(tmp_path), of_files(tmp_path, label_noise=0.5)
    right, found = (data.train.source.labels for data in (clean, noisy))
    assert (right != found).sum() == 6
    batch, tested = next(iter(noisy.train_batches(0, 12))), next(iter(noisy.test_batches(12)))
    assert sorted(batch.y.tolist()) == sorted(found)
    assert tested.y.tolist() == right.tolist()


def test_of_a_subset_that_share_is_wrong() -> None:
    noisy, clean = (datasets.digits(train_size=100, label_noise=share, **CPU) for share in (0.3, 0.0))
    assert (noisy.y != clean.y).sum() == 30


def test_numbers_have_no_wrong_labels(digits_run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match=r"dataset\.label_noise=0\.1: these targets are numbers"):
        datasets.quadratic(label_noise=0.1, **CPU)
    assert digits_run("dataset=quadratic", "+dataset.label_noise=0.1") == 2
    assert "unknown key 'dataset.label_noise'" in capsys.readouterr().err
