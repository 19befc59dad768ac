"""Images in class folders, decoded by worker processes."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from corridor_exp import datasets
from corridor_exp.errors import RunError
from corridor_exp.launcher import cores
from corridor_exp.objective import Objective
from corridor_exp.objective.ranks import Ranks
from corridor_exp.probes.base import ProbeData
from corridor_exp.runs import records
from tests.conftest import unpack_imagenet
from tests.datasets.test_datasets import CPU, all_of, write_tree


def folder(root: Path, **options: object) -> datasets.Dataset:
    defaults = {"image_size": 16, "workers": 0, "mean": [0.5] * 3, "std": [0.25] * 3}
    return datasets.imagefolder(root=str(root), **{**defaults, **CPU, **options})


@pytest.mark.filterwarnings("error:This DataLoader will create")  # more workers than cores
def test_crops_are_a_function_of_seed_epoch_and_image_in_any_worker(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", {"train": 6, "val": 2}, size=40)
    alone, helped = folder(root), folder(root, workers=cores() + 1)
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
    root = write_tree(tmp_path / "data", {"train": 2}, size=40)
    shutil.copytree(root / "train", root / "val")
    tested = {t.sum().item() for batch in folder(root).test_batches(7) for t in batch.x}
    for augment in (False, True):
        seen = {t.sum().item() for t in all_of(folder(root, augment=augment), 0)[0]}
        assert (seen == tested) is not augment


def test_a_missing_tree_names_the_cures(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"dataset\.root.*dataset=digits"):
        folder(tmp_path)


def test_without_a_validation_set_there_is_nothing_to_test_on(tmp_path: Path, capsys, caplog) -> None:
    dataset = folder(write_tree(tmp_path / "data", {"train": 2}))
    assert dataset.test_size == 0
    assert list(dataset.test_batches(10)) == []
    assert "no val or test folder" in capsys.readouterr().err + caplog.text  # whether or not a command ran before


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
    assert any((accuracy * 6) % 1 > 1e-6 for accuracy in accuracies)  # some batches have fewer than six images
    assert (written[-1]["test/accuracy"] * 7) % 1 == pytest.approx(0, abs=1e-6)
    argv += ["dataset.skip_corrupt=true", "out_dir=half"]
    assert corridor_train(*argv, "max_steps=4") == corridor_train(*argv, "max_steps=5", "resume.override=true") == 0
    assert json.loads(Path("half/summary.json").read_text())["corrupt_images"] == 3  # also those of the first epoch


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


def test_of_fewer_images_than_ranks_some_ranks_have_none(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", {"train": 2, "val": 1})
    parts = []
    for rank in range(3):
        dataset = folder(root)
        dataset.ranks = Ranks(rank, 3)
        (batch,) = dataset.test_batches(10)
        assert batch.images == 2
        assert batch.x.shape[1:] == (3, 16, 16)
        parts.append(len(batch.x))
    assert sorted(parts) == [0, 1, 1]


def test_a_look_at_all_images_is_a_mean_over_those_that_can_be_read(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", {"train": 4, "val": 1})
    (root / "train/b/0.png").write_bytes(b"no image")
    dataset = folder(root, skip_corrupt=True)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 2))
    torch.nn.init.zeros_(model[1].weight)
    torch.nn.init.zeros_(model[1].bias)
    E, _ = Objective(model).gradient(ProbeData("train", dataset, 3).of(next(iter(dataset.train_batches(0, 3)))))
    assert E.item() == pytest.approx(math.log(2))
