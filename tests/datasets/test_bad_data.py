"""A bad data set never ends in a traceback. The error is one line that names the file or folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.datasets import damage
from tests.datasets.bad import BAD, Bad
from tests.datasets.damage import Write

RUN = ["logger=jsonl", "probe=none", "max_steps=1", "batch_size=full", "out_dir=out"]


def command(argv: str, root: Path) -> list[str]:
    if "libsvm" in argv:
        return [*argv.format(root=root).split(), "model=logistic", *RUN]
    return [*argv.format(root=root).split(), f"dataset.image_size={damage.SIZE}", "model=linear", *RUN]


def told(err: str) -> list[str]:
    """The lines on stderr, without progress bars."""
    return [line for line in err.replace("\r", "\n").split("\n") if line and "%|" not in line]


@pytest.mark.parametrize("case", BAD, ids=[case.name for case in BAD])
def test_bad_data_are_refused_in_one_line_that_names_them(tmp_path: Path, corridor_train, capfd, case: Bad) -> None:
    root = tmp_path / "data"
    case.good(root)
    case.spoil(root)
    assert corridor_train(*command(case.argv, root)) == 1
    *_, said, last = lines = told(capfd.readouterr().err)
    assert case.said.format(root=root) in said
    assert last.startswith("corridor-train: failed")
    assert all(line.startswith("corridor-train: ") for line in lines)


@pytest.mark.parametrize(
    ("argv", "write"),
    [
        (damage.SMALL, damage.folders),
        (damage.MNIST, damage.release),
        (damage.FASHION, damage.fashion),
        (damage.FILES, damage.jpegs),
        (damage.NET, damage.shards),
        (damage.NET, damage.tars),
        (damage.LIBSVM, damage.samples),
    ],
)
def test_before_they_were_spoilt_they_could_be_trained_on(
    tmp_path: Path, corridor_train, capfd, argv: str, write: Write
) -> None:
    write(tmp_path / "data")
    assert corridor_train(*command(argv, tmp_path / "data")) == 0
    assert all(line.startswith("corridor-train: ") for line in told(capfd.readouterr().err))


@pytest.mark.parametrize(("argv", "write"), [(damage.SMALL, damage.folders), (damage.FILES, damage.jpegs)])
def test_a_name_that_is_no_utf_8_is_as_good_as_any(tmp_path: Path, corridor_train, argv: str, write: Write) -> None:
    root = tmp_path / "data"
    write(root)
    for split in os.listdir(root):
        (root / split / "b").rename(root / split / os.fsdecode(b"b\xff"))
        for image in os.listdir(root / split / "a"):
            (root / split / "a" / image).rename(root / split / "a" / os.fsdecode(b"\xe9" + os.fsencode(image)))
    for _ in range(2):  # the second time from the cache
        assert corridor_train(*command(argv, root), "resume.override=true") == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["train", "train/a", "train/a/0.png"])
def test_what_may_not_be_read_is_named(tmp_path: Path, corridor_train, capfd, name: str) -> None:
    damage.folders(tmp_path / "data")
    (tmp_path / "data" / name).chmod(0)
    assert corridor_train(*command(damage.SMALL, tmp_path / "data")) == 1
    assert str(tmp_path / "data") in told(capfd.readouterr().err)[-2]
