"""Order, subsets, standardisation and augmentation of data sets, and the small ones on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from corridor_exp import datasets
from corridor_exp.datasets.base import balanced_subset, epoch_order, mixed_seed
from corridor_exp.datasets.resident import PADDING, Augmentation, augmented
from corridor_exp.errors import RunError
from tests.conftest import unpack_cifar10

CPU = {"device": torch.device("cpu"), "seed": 0}


def write_tree(root: Path, splits: dict[str, int], size: int = 32, mode: str = "RGB") -> Path:
    """Class folders `a` and `b`, each with as many random images as `splits` says."""
    rng = np.random.default_rng(0)
    shape = (size, size) if mode == "L" else (size, size, 3)
    for split, count in splits.items():
        for name in "ab":
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{i}.png")
    return root


def all_of(
    dataset: datasets.Dataset, epoch: int = 0, batch_size: int = 7, start: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(dataset.train_batches(epoch, batch_size, start))
    return torch.cat([b.x for b in batches]), torch.cat([b.y for b in batches])


# --------------------------------------------------------------------------- order


def test_an_epochs_order_is_a_permutation_and_a_function_of_seed_and_epoch() -> None:
    order = epoch_order(100, seed=1, epoch=2)
    assert sorted(order.tolist()) == list(range(100))
    torch.manual_seed(77)
    assert torch.equal(order, epoch_order(100, 1, 2))
    assert not torch.equal(order, epoch_order(100, 1, 3))
    assert not torch.equal(order, epoch_order(100, 2, 2))


def test_mixed_seeds_are_the_same_everywhere() -> None:
    assert mixed_seed("order", 0, 0) == 8105155533265743171 != mixed_seed("order", 0, 1)
    assert 0 <= mixed_seed("x", 10**9) < 2**63


def test_a_subset_is_balanced_fixed_and_in_order() -> None:
    labels = np.array([0] * 50 + [1] * 30 + [2] * 5)
    chosen = balanced_subset(labels, 21, "dataset.train_size")
    assert np.bincount(labels[chosen]).tolist() == [8, 8, 5]
    assert chosen.tolist() == sorted(chosen)
    assert np.array_equal(chosen, balanced_subset(labels, 21, "dataset.train_size"))
    assert len(balanced_subset(labels, None, "")) == 85
    with pytest.raises(RunError, match="only 85 images"):
        balanced_subset(labels, 86, "dataset.train_size")


# -------------------------------------------------------------------------- digits


def test_digits_are_the_same_1500_and_297_images_for_any_seed() -> None:
    one, two = datasets.digits(**CPU), datasets.digits(device=torch.device("cpu"), seed=5)
    assert (one.train_size, one.test_size, one.shape.outputs) == (1500, 297, 10)
    assert torch.equal(one.x, two.x)
    assert torch.equal(one.test_y, two.test_y)
    assert one.x.dtype == torch.uint8


def test_inputs_are_standardised_by_the_training_mean_and_deviation() -> None:
    dataset = datasets.digits(**CPU)
    x, _ = all_of(dataset, batch_size=256)
    assert x.mean().item() == pytest.approx(0, abs=1e-5)
    assert x.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    test = torch.cat([b.x for b in dataset.test_batches(100)])
    expected = (dataset.test_x.float() - dataset.x.float().mean()) / dataset.x.float().std(correction=0)
    torch.testing.assert_close(test, expected, rtol=1e-4, atol=1e-5)


def test_an_epoch_has_every_image_once_and_can_begin_anywhere() -> None:
    dataset = datasets.digits(train_size=100, **CPU)
    x, y = all_of(dataset)
    assert len(x) == 100
    assert y.sort().values.equal(dataset.y.sort().values)
    late, late_y = all_of(dataset, start=5)
    assert torch.equal(late, x[35:])
    assert torch.equal(late_y, y[35:])


def test_drop_last_leaves_out_the_smaller_batch() -> None:
    dataset = datasets.digits(train_size=100, drop_last=True, **CPU)
    assert dataset.steps(7) == 14
    assert len(all_of(dataset)[0]) == 98


def test_image_size_resizes_once() -> None:
    dataset = datasets.digits(train_size=30, image_size=16, **CPU)
    assert dataset.x.shape == (30, 1, 16, 16)
    assert dataset.shape.size == 16


def test_held_out_images_are_training_images_that_no_run_of_that_size_trains_on() -> None:
    whole, chosen = datasets.digits(**CPU), datasets.digits(held_out=200, **CPU)
    rows = {tuple(x.flatten().tolist()) for x in whole.x}
    held, left = ({tuple(x.flatten().tolist()) for x in part} for part in (chosen.test_x, chosen.x))
    assert held | left == rows
    assert not held & left
    assert chosen.test_y.bincount().tolist() == [20] * 10
    small = datasets.digits(train_size=300, held_out=200, **CPU)
    assert torch.equal(small.x, datasets.digits(train_size=300, **CPU).x)  # the training images do not change
    assert torch.equal(small.test_x, chosen.test_x)


# -------------------------------------------------------------------- augmentation


def test_augmented_images_are_crops_of_the_padded_image_flipped_or_not() -> None:
    x = torch.randint(1, 256, (20, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    out = augmented(x, Augmentation(crop=True, flip=True), seed=4)
    assert torch.equal(out, augmented(x, Augmentation(crop=True, flip=True), seed=4))
    padded = torch.nn.functional.pad(x, (PADDING,) * 4)
    positions = set()
    for i in range(20):
        found = [
            (r, c, flip)
            for flip in (False, True)
            for r in range(2 * PADDING + 1)
            for c in range(2 * PADDING + 1)
            if torch.equal((out[i].flip(2) if flip else out[i]), padded[i, :, r : r + 8, c : c + 8])
        ]
        assert found
        positions.add(found[0])
    assert len(positions) > 10
    assert {flip for *_, flip in positions} == {False, True}


def test_augmentation_is_a_function_of_seed_epoch_and_position() -> None:
    dataset = datasets.digits(train_size=60, augment=True, **CPU)
    x, _ = all_of(dataset, epoch=1)
    torch.manual_seed(99)
    assert torch.equal(x, all_of(dataset, epoch=1)[0])
    assert torch.equal(x[21:], all_of(dataset, epoch=1, start=3)[0])
    assert not torch.equal(x, all_of(dataset, epoch=2)[0])


# ------------------------------------------------------------- small sets on disk


def test_a_tree_of_images_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_tree(tmp_path / "data", {"train": 5, "test": 2})
    options = {"root": str(root), "download": False, **CPU}
    first = datasets.cifar10(**options)
    assert (first.train_size, first.test_size) == (10, 4)
    pixels = np.asarray(Image.open(root / "train" / "b" / "3.png")).transpose(2, 0, 1)
    assert any(np.array_equal(pixels, image.numpy()) for image in first.x)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("decoded again"))
    again = datasets.cifar10(**options)
    assert torch.equal(first.x, again.x)


def test_a_changed_image_is_noticed(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", {"train": 2, "test": 1})
    options = {"root": str(root), "download": False, **CPU}
    first = datasets.cifar10(**options)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(root / "train" / "a" / "0.png")
    assert not torch.equal(first.x, datasets.cifar10(**options).x)


def test_a_cache_cut_short_is_made_again(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", {"train": 2, "test": 1})
    options = {"root": str(root), "download": False, **CPU}
    first = datasets.cifar10(**options)
    for file in (tmp_path / "cache").rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(first.x, datasets.cifar10(**options).x)


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", {"train": 2, "test": 1}, size=28, mode="L")
    assert datasets.mnist(root=str(root), download=False, **CPU).shape[:3] == (1, 28, 2)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", {"train": 2, "test": 1})
    broken = root / "train" / "a" / "1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(RunError, match=str(broken)):
        datasets.cifar10(root=str(root), download=False, **CPU)
    broken.unlink()
    jpeg = root / "train" / "a" / "1.jpg"
    Image.open(root / "train" / "a" / "0.png").save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:-300] + b"\xff\xd9")  # which PIL alone would read
    with pytest.raises(RunError, match=rf"cannot read the image {jpeg}: Corrupt JPEG data: premature end"):
        datasets.cifar10(root=str(root), download=False, **CPU)


def test_the_official_release_is_read_and_its_absence_names_the_cures(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(RunError, match=r"dataset\.root.*dataset\.download.*dataset=digits"):
        datasets.cifar10(root=str(tmp_path), download=False, **CPU)

    class Release:
        classes = ("a", "b", "c")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            n = 6 if train else 3
            self.data = np.arange(n * 32 * 32 * 3, dtype=np.int64).reshape(n, 32, 32, 3).astype(np.uint8)
            self.targets = [i % 3 for i in range(n)]

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Release)
    dataset = datasets.cifar10(root=str(tmp_path), download=True, **CPU)
    assert dataset.shape == (3, 32, 3, "small")
    assert torch.equal(dataset.x[1], torch.from_numpy(Release("", True, True).data[1]).permute(2, 0, 1))


@pytest.mark.data
@pytest.mark.slow
def test_all_of_cifar10(shared_data: Path, tmp_path: Path) -> None:
    unpack_cifar10(shared_data, tmp_path / "cifar")
    dataset = datasets.cifar10(root=str(tmp_path / "cifar"), download=False, **CPU)
    assert dataset.shape == (3, 32, 10, "small")
    assert dataset.train_size == dataset.test_size == 1000
    assert dataset.y.bincount().tolist() == [100] * 10
