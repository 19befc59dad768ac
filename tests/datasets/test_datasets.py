from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from corridor_exp import datasets
from corridor_exp.datasets.base import balanced_subset, epoch_order, mixed_seed
from corridor_exp.datasets.download import fetch
from corridor_exp.datasets.resident import PADDING, Augmentation, augmented
from corridor_exp.errors import RunError
from corridor_exp.runs import records
from tests.conftest import unpack_cifar10, unpack_imagenet
from tests.datasets import bad

CPU = {"device": torch.device("cpu"), "seed": 0}


def write_tree(root: Path, splits: dict[str, int], size: int = 32, mode: str = "RGB") -> Path:
    """Class folders `a` and `b` with so many random images each."""
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
    assert mixed_seed("order", 0, 0) == mixed_seed("order", 0, 0) != mixed_seed("order", 0, 1)
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
    assert torch.equal(small.x, datasets.digits(train_size=300, **CPU).x)  # trained on what it would be without
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
def test_all_of_cifar10(shared_data: Path, tmp_path: Path) -> None:
    unpack_cifar10(shared_data, tmp_path / "cifar")
    dataset = datasets.cifar10(root=str(tmp_path / "cifar"), download=False, **CPU)
    assert dataset.shape == (3, 32, 10, "small")
    assert dataset.train_size == dataset.test_size == 1000
    assert dataset.y.bincount().tolist() == [100] * 10


# ----------------------------------------------------------------------- downloads

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Served(ThreadingHTTPServer):
    """CONTENT at `url`, cut after `cut` bytes of an answer; `asked` are the ranges that were asked for.

    Any other path has the content of `files`.
    """

    def __init__(self) -> None:
        self.cut, self.ranges, self.says_length, self.asked = len(CONTENT), True, True, []
        self.files: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_port}/data.tar.gz"


class _Answer(BaseHTTPRequestHandler):
    server: Served

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.server.asked.append(self.headers["Range"])
        content = self.server.files.get(self.path.removeprefix("/"), CONTENT)
        begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if self.server.ranges else 0
        if begin and begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if self.server.ranges else 200)
        if self.server.says_length:
            self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin : begin + self.server.cut])


@pytest.fixture
def served() -> Iterator[Served]:
    with Served() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("ranges", [True, False])
def test_row_9_a_cut_download_is_told_never_used_and_gone_on_with(served: Served, tmp_path: Path, ranges: bool) -> None:
    file = tmp_path / "root" / "data.tar.gz"
    served.cut, served.ranges = 300_000, ranges
    with pytest.raises(RunError, match=r"cut after 300,000 of 1,024,000 bytes.*goes on from there"):
        fetch(served.url, file, MD5)
    assert not file.exists()
    served.cut = len(CONTENT)
    fetch(served.url, file, MD5)
    assert file.read_bytes() == CONTENT
    assert served.asked == ["bytes=0-", "bytes=300000-"]
    fetch(served.url, file, MD5)
    assert len(served.asked) == 2
    assert [f.name for f in file.parent.iterdir()] == [file.name]


def test_a_download_that_never_began_has_nothing_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="refused") as told:
        fetch("http://127.0.0.1:1/data.tar.gz", tmp_path / "data.tar.gz", MD5)
    assert "goes on" not in str(told.value)


def test_row_9_a_run_killed_after_the_last_byte_goes_on_from_there(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "data.tar.gz"
    file.with_name("data.tar.gz.part").write_bytes(CONTENT)
    fetch(served.url, file, MD5)
    assert file.read_bytes() == CONTENT
    file.unlink()
    file.with_name("data.tar.gz.part").write_bytes(CONTENT + b"and more")
    with pytest.raises(RunError, match="is not what it should be"):
        fetch(served.url, file, MD5)
    fetch(served.url, file, MD5)
    assert file.read_bytes() == CONTENT


def test_row_9_a_server_need_not_say_how_long_its_file_is(served: Served, tmp_path: Path) -> None:
    served.says_length, served.cut = False, 300_000
    with pytest.raises(RunError, match="is not what it should be"):
        fetch(served.url, tmp_path / "data", MD5)
    served.cut = len(CONTENT)
    fetch(served.url, tmp_path / "data", MD5)
    assert (tmp_path / "data").read_bytes() == CONTENT


def test_row_9_each_file_of_mnist_is_gone_on_with_too(served: Served, tmp_path: Path, monkeypatch) -> None:
    bad.release(tmp_path / "made")
    packed = {f"{f.name}.gz": gzip.compress(f.read_bytes(), mtime=0) for f in (tmp_path / "made/MNIST/raw").iterdir()}
    served.files, served.cut = packed, 40
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [served.url.removesuffix("data.tar.gz")])
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in sorted(packed.items())]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    options = {"root": str(tmp_path / "data"), "download": True, "image_size": bad.SIZE, **CPU}
    answers = sum(-(-len(content) // 40) for content in packed.values())
    for _ in range(answers - len(packed)):  # a file's last answer, and the next one's first, come in one call
        with pytest.raises(RunError, match="goes on from there"):
            datasets.mnist(**options)
    dataset = datasets.mnist(**options)
    assert (dataset.train_size, dataset.test_size) == (4, 4)
    assert served.asked[:3] == ["bytes=0-", "bytes=40-", "bytes=80-"]
    assert len(served.asked) == answers


def test_row_9_another_content_is_refused_and_deleted(served: Served, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not what it should be"):
        fetch(served.url, tmp_path / "data.tar.gz", "0" * 32)
    assert not list(tmp_path.iterdir())


def test_without_a_network_the_error_names_the_cures(tmp_path: Path, monkeypatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("corridor_exp.datasets.download.urlopen", unreachable)
    with pytest.raises(RunError, match=r"not known.*dataset\.root.*dataset=digits"):
        datasets.cifar10(root=str(tmp_path / "data"), download=True, **CPU)


def test_row_9_a_run_whose_download_fails_says_so_in_one_line(
    served: Served, corridor_train, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", served.url)
    served.cut = 1000
    assert corridor_train("dataset.root=data", "model.width=8", "logger=jsonl", "out_dir=out") == 1
    err = capsys.readouterr().err
    assert "cut after 1,000 of 1,024,000 bytes" in err
    assert "Traceback" not in err


# ------------------------------------------------------------------- image folders


def folder(root: Path, **options: object) -> datasets.Dataset:
    defaults = {"image_size": 16, "workers": 0, "mean": [0.5] * 3, "std": [0.25] * 3}
    return datasets.imagefolder(root=str(root), **{**defaults, **CPU, **options})


def test_crops_are_a_function_of_seed_epoch_and_image_in_any_worker(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", {"train": 6, "val": 2}, size=40)
    alone, helped = folder(root), folder(root, workers=2)
    rng = torch.get_rng_state()
    x, y = all_of(alone, epoch=3, batch_size=5)
    assert torch.equal(rng, torch.get_rng_state())
    assert torch.equal(x, all_of(helped, epoch=3, batch_size=5)[0])
    assert torch.equal(x[5:], all_of(helped, epoch=3, batch_size=5, start=1)[0])
    assert not torch.equal(x, all_of(alone, epoch=4, batch_size=5)[0])
    assert x.shape == (12, 3, 16, 16)
    assert y.bincount().tolist() == [6, 6]


def test_pixels_are_standardised_by_the_given_mean_and_deviation(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for split, name in (("train", "a"), ("train", "b"), ("val", "a")):
        (root / split / name).mkdir(parents=True)
        Image.fromarray(np.full((20, 20, 3), 51, np.uint8)).save(root / split / name / "0.png")
    x, _ = all_of(folder(root))
    torch.testing.assert_close(x, torch.full_like(x, (0.2 - 0.5) / 0.25))


def test_training_may_use_the_evaluation_crop(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", {"train": 2, "val": 1}, size=40)
    dataset = folder(root, augment=False)
    assert torch.equal(all_of(dataset, 0)[0].sum(), all_of(dataset, 0)[0].sum())
    one = {t.sum().item() for t in all_of(dataset, 0)[0]}
    assert one == {t.sum().item() for t in all_of(dataset, 1)[0]}


def test_a_missing_tree_names_the_cures(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"dataset\.root.*dataset=digits"):
        folder(tmp_path)


def test_without_a_validation_set_there_is_nothing_to_test_on(tmp_path: Path, capsys) -> None:
    dataset = folder(write_tree(tmp_path / "data", {"train": 2}))
    assert dataset.test_size == 0
    assert list(dataset.test_batches(10)) == []
    assert "no val or test folder" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 1])
def test_row_8_a_broken_file_is_named_from_any_worker(tmp_path: Path, workers: int) -> None:
    root = write_tree(tmp_path / "data", {"train": 2, "val": 1})
    broken = root / "train" / "b" / "0.png"
    broken.write_bytes(b"no image")
    with pytest.raises(RunError, match=str(broken)):
        all_of(folder(root, workers=workers))


@pytest.mark.parametrize("workers", [0, 1])
def test_row_8_broken_files_are_left_out_on_request_told_once_and_counted(
    tmp_path: Path, corridor_train, capfd, workers: int
) -> None:
    root = write_tree(tmp_path / "data", {"train": 10, "val": 4})
    broken = [root / "train/b/0.png", root / "train/a/3.png", root / "val/a/1.png"]
    broken[0].write_bytes(b"no image")
    for file in broken[1:]:
        file.write_bytes(file.read_bytes()[:200])  # cut short
    argv = ["dataset=imagefolder", f"dataset.root={root}", f"dataset.workers={workers}", "dataset.image_size=32"]
    argv += ["model=linear", "logger=jsonl", "probe=none", "epochs=2", "batch_size=6", "log_every=1"]
    assert corridor_train(*argv, "out_dir=strict") == 1
    err = capfd.readouterr().err
    assert any(f"cannot read the image {file}" in err for file in broken)
    assert "Traceback" not in err
    assert corridor_train(*argv, "dataset.skip_corrupt=true", "out_dir=out") == 0
    err = capfd.readouterr().err
    assert all(err.count(f"left out: cannot read the image {file}") == 1 for file in broken)
    assert json.loads(Path("out/summary.json").read_text())["corrupt_images"] == 3
    written = list(records.read_records(Path("out")))
    assert [r["step"] for r in written] == list(range(8))
    accuracies = [r["train/accuracy"] for r in written[:4]]
    assert any((accuracy * 6) % 1 > 1e-6 for accuracy in accuracies)  # of batches with fewer than six images
    assert (written[-1]["test/accuracy"] * 7) % 1 == pytest.approx(0, abs=1e-6)


def test_a_worker_that_is_killed_is_told_in_one_line(tmp_path: Path, monkeypatch) -> None:
    dataset = folder(write_tree(tmp_path / "data", {"train": 2, "val": 1}), workers=1)
    monkeypatch.setattr(dataset.train.source, "read", lambda number: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(RunError, match=r"^DataLoader worker .*dataset\.workers=0 decodes in the training process$"):
        all_of(dataset)


@pytest.mark.data
def test_real_imagenet_files_grey_ones_among_them(shared_data: Path, tmp_path: Path) -> None:
    unpack_imagenet(shared_data, tmp_path)
    dataset = folder(tmp_path, workers=2, image_size=64)
    assert dataset.shape == (3, 64, 200, "imagenet")
    x, y = all_of(dataset, batch_size=64)
    assert x.shape == (200, 3, 64, 64)
    assert y.sort().values.tolist() == list(range(200))
