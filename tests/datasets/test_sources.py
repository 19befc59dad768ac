"""Parquet and tar shards give the same images, labels and batches as the folder they were made from, bit by bit."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from torchvision.datasets import ImageFolder

from corridor_exp import datasets
from corridor_exp.errors import RunError

Samples = list[tuple[str, bytes, int]]  # name without ending, JPEG, class


def as_parquet(folder: Path, samples: Samples, shards: int, rows: int = 3) -> list[Path]:
    """Shards as on the Hugging Face Hub, with `rows` images in a row group."""
    files = []
    for number, part in enumerate(np.array_split(np.arange(len(samples)), shards)):
        images = [{"bytes": samples[i][1], "path": f"{samples[i][0]}.jpg"} for i in part]
        table = arrow.table({"image": images, "label": [samples[i][2] for i in part]})
        files.append(folder / f"train-{number:05}-of-{shards:05}.parquet")
        folder.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, files[-1], row_group_size=rows)
    return files


def as_tar(folder: Path, samples: Samples, shards: int) -> list[Path]:
    """Shards as webdataset's TarWriter writes them."""
    files = []
    for number, part in enumerate(np.array_split(np.arange(len(samples)), shards)):
        files.append(folder / f"train-{number:04}.tar")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(files[-1], "w") as archive:
            for i in part:
                name, data, label = samples[i]
                for ending, content in (("cls", str(label).encode()), ("jpg", data), ("json", b"{}")):
                    member = tarfile.TarInfo(f"{name}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return files


PACK: dict[str, Callable[..., list[Path]]] = {"parquet": as_parquet, "tar": as_tar}


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    """Twenty images in two classes, also written as class folders below `folder`."""
    rng = np.random.default_rng(0)
    for i in range(20):
        file = tmp_path / "folder" / "train" / "ab"[i % 2] / f"{i:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)).save(file)
    return read(tmp_path / "folder")


def read(root: Path) -> Samples:
    return [
        (Path(path).stem, Path(path).read_bytes(), label) for path, label in ImageFolder(str(root / "train")).samples
    ]


def images(root: Path, **options: object) -> datasets.Dataset:
    fixed = {"device": torch.device("cpu"), "seed": 0, "mean": [0.5] * 3, "std": [0.25] * 3}
    return datasets.imagefolder(root=str(root), **{"image_size": 16, "workers": 0, **fixed, **options})


def batches(dataset: datasets.Dataset, epoch: int = 0, size: int = 6, start: int = 0) -> list[torch.Tensor]:
    return [t for batch in dataset.train_batches(epoch, size, start) for t in batch]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) > 0 and all(torch.equal(s, t) for s, t in zip(a, b, strict=True))


@pytest.mark.parametrize("place", ["train", ".", "data"])
@pytest.mark.parametrize("kind", PACK)
def test_shards_give_the_folders_batches_from_any_position_in_any_worker(
    tmp_path: Path, samples: Samples, kind: str, place: str
) -> None:
    PACK[kind](tmp_path / "shards" / place, samples, shards=3)
    folder, shards = images(tmp_path / "folder"), images(tmp_path / "shards")
    assert (shards.train_size, shards.shape) == (20, folder.shape)
    expected = batches(folder, epoch=2)
    assert same(batches(shards, epoch=2), expected)
    assert same(batches(shards, epoch=2, start=2), expected[4:])
    assert same(batches(images(tmp_path / "shards", workers=2), epoch=2, start=1), expected[2:])
    assert same(batches(images(tmp_path / "shards", train_size=8)), batches(images(tmp_path / "folder", train_size=8)))


@pytest.mark.data
@pytest.mark.parametrize("kind", PACK)
def test_the_real_sample_in_shards_is_the_real_sample_in_folders(tmp_path: Path, shared_data: Path, kind: str) -> None:
    with tarfile.open(shared_data / "imagenet-sample.tar") as archive:
        archive.extractall(tmp_path / "folder")
    PACK[kind](tmp_path / "shards", read(tmp_path / "folder"), shards=4)
    options = {"image_size": 64, "workers": 2}
    expected = batches(images(tmp_path / "folder", **options), size=50)
    assert same(batches(images(tmp_path / "shards", **options), size=50), expected)
    assert same(batches(images(tmp_path / "shards", **options), size=50, start=2), expected[4:])


@pytest.mark.parametrize("kind", PACK)
def test_a_run_on_shards_that_was_stopped_goes_on_to_the_same_bits(
    tmp_path: Path, samples: Samples, corridor_train, kind: str
) -> None:
    PACK[kind](tmp_path / "shards" / "train", samples, shards=2)
    argv = ["dataset=imagefolder", f"dataset.root={tmp_path / 'shards'}", "dataset.workers=1", "dataset.image_size=16"]
    argv += [
        "model=linear",
        "logger=jsonl",
        "probe=none",
        "epochs=2",
        "batch_size=6",
        "log_every=1",
        "resume.override=true",
    ]
    assert corridor_train(*argv, "out_dir=whole") == 0
    assert corridor_train(*argv, "max_steps=2", "out_dir=cut") == 0  # in the middle of the first epoch
    assert corridor_train(*argv, "out_dir=cut") == 0

    def records(name: str) -> list[str]:
        return [line.partition('"train/')[2] for line in Path(name, "records.jsonl").read_text().splitlines()]

    assert len(records("whole")) == 8
    assert records("cut") == records("whole")


def test_where_an_image_of_a_tar_lies_is_found_once(tmp_path: Path, samples: Samples, monkeypatch) -> None:
    as_tar(tmp_path / "shards", samples, shards=2)
    first = batches(images(tmp_path / "shards"))
    monkeypatch.setattr(tarfile, "open", lambda *_: pytest.fail("indexed again"))
    assert same(batches(images(tmp_path / "shards")), first)


def test_a_changed_tar_is_indexed_again(tmp_path: Path, samples: Samples) -> None:
    as_tar(tmp_path / "shards", samples, shards=1)
    assert images(tmp_path / "shards").train_size == 20
    as_tar(tmp_path / "shards", samples[6:13], shards=1)
    assert images(tmp_path / "shards").train_size == 7


def test_the_hubs_own_description_says_how_many_classes_there_are(tmp_path: Path, samples: Samples) -> None:
    (shard,) = as_parquet(tmp_path / "shards", samples, shards=1)
    described = b'{"info": {"features": {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}'
    parquet.write_table(parquet.read_table(shard).replace_schema_metadata({b"huggingface": described}), shard)
    assert images(tmp_path / "shards").shape.outputs == 3


# --------------------------------------------------------- row 8: damaged shards


@pytest.mark.parametrize("kind", PACK)
def test_row_8_a_record_that_is_no_image_is_named_or_left_out(
    tmp_path: Path, samples: Samples, kind: str, capsys
) -> None:
    samples[13] = (samples[13][0], samples[13][1][:100], samples[13][2])
    shards = PACK[kind](tmp_path / "shards", samples, shards=2)
    where = {"parquet": rf"{shards[1]}, row 3", "tar": rf"{shards[1]}, {samples[13][0]}\.jpg"}[kind]
    with pytest.raises(RunError, match=f"cannot read the image {where}: .*skip_corrupt"):
        batches(images(tmp_path / "shards", workers=1))
    dataset = images(tmp_path / "shards", skip_corrupt=True)
    assert sum(len(x) for x in batches(dataset)[::2]) == 19
    assert len(dataset.skipped) == 1


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("keep", [0, 100, 2000])
def test_row_8_a_shard_that_is_cut_short_is_named(tmp_path: Path, samples: Samples, kind: str, keep: int) -> None:
    shard = PACK[kind](tmp_path / "shards", samples, shards=3)[1]
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(RunError, match=str(shard)) as error:
        images(tmp_path / "shards")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("keep", [None, 0, 1000])
def test_row_8_a_shard_that_is_lost_while_training_runs_is_named(
    tmp_path: Path, samples: Samples, kind: str, keep: int | None
) -> None:
    (shard,) = PACK[kind](tmp_path / "shards", samples, shards=1)
    dataset = images(tmp_path / "shards")
    content = shard.read_bytes()
    shard.unlink()
    if keep is not None:
        shard.write_bytes(content[:keep])
    with pytest.raises(RunError, match=f"cannot read the image {shard}, "):
        batches(dataset)


def test_row_8_a_damaged_row_group_is_named(tmp_path: Path, samples: Samples) -> None:
    shard = as_parquet(tmp_path / "shards", samples, shards=1)[0]
    content = bytearray(shard.read_bytes())
    start = parquet.ParquetFile(shard).metadata.row_group(2).column(0).data_page_offset
    content[start : start + 40] = bytes(40)
    shard.write_bytes(content)
    with pytest.raises(RunError, match=f"cannot read the image {shard}, row [678]"):
        batches(images(tmp_path / "shards"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop_columns("label"), "needs image.bytes and label"),
        (lambda t: t.rename_columns(["picture", "label"]), "needs image.bytes and label"),
        (lambda t: t.set_column(1, "label", [[-1] * len(t)]), "without a label"),
    ],
)
def test_parquet_of_another_kind_is_told_in_one_line(tmp_path: Path, samples: Samples, change, said: str) -> None:
    (shard,) = as_parquet(tmp_path / "shards", samples, shards=1)
    parquet.write_table(change(parquet.read_table(shard)), shard)
    with pytest.raises(RunError, match=said) as error:
        images(tmp_path / "shards")
    assert str(shard) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_tar_without_classes_is_told_in_one_line(tmp_path: Path, samples: Samples) -> None:
    shard = tmp_path / "shards" / "train.tar"
    shard.parent.mkdir()
    with tarfile.open(shard.with_name("train-0.tar"), "w") as archive:
        archive.add(tmp_path / "folder" / "train" / "a" / "00.jpg", "00.jpg")
    with pytest.raises(RunError, match=r"train-0\.tar does not have NAME\.jpg and NAME\.cls for each sample: /00"):
        images(tmp_path / "shards")


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, samples: Samples, monkeypatch) -> None:
    as_parquet(tmp_path / "shards", samples, shards=1)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RunError, match=r"pip install '\.\[parquet\]'"):
        images(tmp_path / "shards")
