"""In every split a class has its number in training, for folders and for shards."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from torchvision.datasets import ImageFolder

from corridor_exp import datasets
from corridor_exp.datasets.tree import image_tree
from corridor_exp.errors import RunError

GREY = {"ant": 0, "bee": 128, "cat": 255}  # the grey level identifies the class
Split = dict[str, int]  # class names, and the number of images of each


def image(name: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), GREY.get(name, 60), np.uint8)).save(file, "png")
    return file.getvalue()


def as_folders(root: Path, split: str, classes: Split, order: Sequence[str] = ()) -> None:
    for name, count in classes.items():
        for i in range(count):
            file = root / split / name / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image(name))


def as_parquet(root: Path, split: str, classes: Split, order: Sequence[str] = tuple(GREY), named: bool = True) -> None:
    """One shard with a description as on the Hub: `order` lists the class names by number."""
    names = [name for name, count in classes.items() for _ in range(count)]
    table = arrow.table({"image": [{"bytes": image(n)} for n in names], "label": [order.index(n) for n in names]})
    described = {"info": {"features": {"label": {"names": order}}}} if named else {}
    root.mkdir(parents=True, exist_ok=True)
    parquet.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(described)}), root / f"{split}-0.parquet"
    )


def as_numbers(root: Path, split: str, classes: Split, order: Sequence[str] = tuple(GREY)) -> None:
    as_parquet(root, split, classes, order, named=False)


def as_tar(root: Path, split: str, classes: Split, order: Sequence[str] = tuple(GREY)) -> None:
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / f"{split}-0.tar", "w") as archive:
        for name, count in classes.items():
            for i in range(count):
                for ending, content in (("cls", str(order.index(name)).encode()), ("png", image(name))):
                    member = tarfile.TarInfo(f"{name}{i}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


Write = Callable[..., None]
WRITE: list[Write] = [as_folders, as_parquet, as_numbers, as_tar]
ALL = dict.fromkeys(GREY, 4)


def of_files(root: Path, **more: object) -> datasets.Dataset:
    options = {"image_size": 8, "workers": 0, "mean": [0.5] * 3, "std": [0.25] * 3, **more}
    return datasets.imagefolder(root=str(root), device=torch.device("cpu"), seed=0, **options)


def of_small(root: Path) -> datasets.Dataset:
    return datasets.cifar10(root=str(root), download=False, device=torch.device("cpu"), seed=0)


def labels_tested(dataset: datasets.Dataset) -> list[int]:
    """The labels of all test images, in order."""
    return [int(label) for batch in dataset.test_batches(3) for label in batch.y]


@pytest.mark.parametrize("write", WRITE)
def test_a_split_that_lacks_a_class_keeps_the_numbers_of_training(tmp_path: Path, write: Write) -> None:
    write(tmp_path, "train", ALL)
    write(tmp_path, "val", {"bee": 2, "cat": 1})
    dataset = of_files(tmp_path)
    assert dataset.shape.outputs == 3
    assert labels_tested(dataset) == [1, 1, 2]


def test_so_does_a_small_data_set_in_folders(tmp_path: Path) -> None:
    as_folders(tmp_path, "train", ALL)
    as_folders(tmp_path, "test", {"bee": 2, "cat": 1})
    assert labels_tested(of_small(tmp_path)) == [1, 1, 2]


@pytest.mark.parametrize(("option", "split"), [("cifar10", "test"), ("imagefolder", "val")])
def test_what_is_told_apart_in_training_is_told_apart_in_testing(corridor_train, option: str, split: str) -> None:
    as_folders(Path("data"), "train", ALL)
    as_folders(Path("data"), split, {"bee": 3, "cat": 3})
    argv = [f"dataset={option}", "dataset.root=data", "dataset.image_size=8", "model=mlp", "model.width=16"]
    argv += ["dataset.workers=0"] if option == "imagefolder" else []
    argv += ["optim=adam", "optim.lr=0.03", "batch_size=full", "epochs=60", "eval_every=60", "probe=none"]
    assert corridor_train(*argv, "logger=jsonl", "out_dir=out") == 0
    metrics = json.loads(Path("out/summary.json").read_text())["metrics"]
    assert metrics["train/accuracy"] == metrics["test/accuracy"] == 1


@pytest.mark.parametrize("order", [("cat", "ant", "bee"), ("bee", "cat")])
def test_shards_that_name_their_classes_are_matched_by_name(tmp_path: Path, order: tuple[str, ...]) -> None:
    as_parquet(tmp_path, "train", ALL)
    as_parquet(tmp_path, "val", {"bee": 2, "cat": 1}, order)
    assert labels_tested(of_files(tmp_path)) == [1, 1, 2]


def test_shards_without_names_have_the_numbers_of_those_with_names(tmp_path: Path) -> None:
    as_parquet(tmp_path, "train", ALL)
    as_tar(tmp_path, "val", {"bee": 2, "cat": 1})
    assert labels_tested(of_files(tmp_path)) == [1, 1, 2]


def test_numbers_are_the_names_of_folders_and_not_their_places(tmp_path: Path) -> None:
    as_folders(tmp_path, "train", {str(number): 1 for number in range(11)})  # in sorted order 10 comes third
    as_tar(tmp_path, "val", {"ten": 1, "two": 1}, ["", "", "two", *[""] * 7, "ten"])
    assert labels_tested(of_files(tmp_path)) == [2, 3]


@pytest.mark.parametrize("dataset", [of_small, of_files])
def test_a_folder_that_training_lacks_is_named(tmp_path: Path, dataset: Callable[[Path], object]) -> None:
    as_folders(tmp_path, "train", {"ant": 2, "cat": 2})
    as_folders(tmp_path, "test", ALL)
    with pytest.raises(RunError, match=rf"{tmp_path}/test has the class 'bee', which the training set does not have"):
        dataset(tmp_path)


@pytest.mark.parametrize(
    ("train", "test", "named"),
    [
        (as_parquet, lambda *a: as_parquet(*a, ["ant", "dog", "bee", "cat"]), "dog"),
        (as_numbers, lambda *a: as_numbers(*a, ["ant", "", "", "dog", "bee", "cat"]), "3"),
        (as_tar, lambda *a: as_tar(*a, ["ant", "", "", "", "dog", "bee", "cat"]), "4"),
        (as_folders, as_tar, "0"),
        (as_tar, as_folders, "ant"),
    ],
)
def test_a_class_of_a_shard_that_training_lacks_is_named(tmp_path: Path, train: Write, test: Write, named: str) -> None:
    train(tmp_path, "train", ALL)
    test(tmp_path, "val", {"ant": 1, "dog": 1} if named != "0" else {"ant": 1})
    with pytest.raises(RunError, match=rf"val\S* has the class '{named}', which the training set does not have"):
        of_files(tmp_path)


def test_a_name_that_training_has_twice_stands_for_no_number(tmp_path: Path) -> None:
    """Such as 'crane' in ImageNet on the Hub: the bird and the machine."""
    twice = ["ant", "bee", "ant", "cat"]
    as_parquet(tmp_path, "train", ALL, twice)
    as_parquet(tmp_path, "val", {"cat": 1}, twice)
    assert labels_tested(of_files(tmp_path)) == [3]
    as_parquet(tmp_path, "val", {"cat": 1})
    with pytest.raises(RunError, match="a name occurs twice"):
        of_files(tmp_path)


# ------------------------------------------------------------------------- folders


def test_images_come_in_torchvisions_order(tmp_path: Path) -> None:
    for name in ("b/z/1.png", "b/z.png", "b/a.JPG", "b/a/x/0.webp", "b/a-/0.png", "a/10.png", "a/9.png", "B/1.bmp"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "7.png").touch()
    (tmp_path / "train" / "b" / "m").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "train" / "a" / "notes.txt").touch()
    theirs, ours = ImageFolder(str(tmp_path / "train")), image_tree(tmp_path / "train")
    assert list(zip(ours.paths, ours.labels.tolist(), strict=True)) == theirs.samples
    assert ours.names == theirs.classes


def test_a_link_adds_each_image_at_most_once(tmp_path: Path) -> None:
    as_folders(tmp_path, "train", {"ant": 4, "bee": 4})
    as_folders(tmp_path, "more", {"bee": 3})
    split = tmp_path / "train"
    before = image_tree(split).paths
    (split / "ant" / "self").symlink_to(".")
    (split / "ant" / "up").symlink_to(tmp_path)
    (split / "bee" / "other").symlink_to(split / "ant")
    assert image_tree(split).paths == before
    (split / "bee" / "more").symlink_to(tmp_path / "more" / "bee")
    (split / "bee" / "again").symlink_to(tmp_path / "more" / "bee")
    (tmp_path / "more" / "bee" / "back").symlink_to(split)
    found = image_tree(split)
    assert np.bincount(found.labels).tolist() == [4, 7]
    assert len({str(Path(path).resolve()) for path in found.paths}) == 11


def test_a_class_folder_may_be_a_link_elsewhere(tmp_path: Path) -> None:
    as_folders(tmp_path, "pool", {"ant": 2, "bee": 3})
    (tmp_path / "train").mkdir()
    for name in ("ant", "bee"):
        (tmp_path / "train" / name).symlink_to(tmp_path / "pool" / name)
    assert np.bincount(image_tree(tmp_path / "train").labels).tolist() == [2, 3]
    (tmp_path / "train" / "cat").symlink_to(tmp_path / "pool" / "bee")
    with pytest.raises(RunError, match=r"class folder .*/train/cat has no image of its own"):
        image_tree(tmp_path / "train")
