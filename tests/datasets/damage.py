"""Small data sets, and what can be wrong with them. Both are functions that write to a folder."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as arrow
from PIL import Image
from pyarrow import parquet

SIZE = 8
Write = Callable[[Path], object]


def picture(seed: int, kind: str = "png", size: int = SIZE) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


# ---------------------------------------------------------------------- good data


def folders(root: Path, test: str = "test", kind: str = "png") -> None:
    for split in ("train", test):
        for number, name in enumerate("ab"):
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                (root / split / name / f"{i}.{kind}").write_bytes(picture(2 * number + i, kind))


def jpegs(root: Path) -> None:
    folders(root, "val", "jpeg")


def release(root: Path, name: str = "MNIST") -> None:
    """MNIST's files, with four images and labels each."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, 4 * SIZE * SIZE, dtype=np.uint8).tobytes()
    for split in ("train", "t10k"):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, 4, SIZE, SIZE) + pixels)
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 4) + bytes([0, 1, 0, 1]))


def fashion(root: Path) -> None:
    release(root, "FashionMNIST")


def table(labels: object = (0, 1, 0, 1), images: object = None) -> arrow.Table:
    return arrow.table({"image": images or [{"bytes": picture(i)} for i in range(4)], "label": labels})


def shards(root: Path) -> None:
    root.mkdir()
    for split in ("train", "val"):
        parquet.write_table(table(), root / f"{split}-0.parquet")


def tars(root: Path) -> None:
    root.mkdir()
    for split in ("train", "val"):
        tar(root / f"{split}-0.tar", [b"0", b"1", b"0", b"1"])


def tar(file: Path, classes: list[bytes], kind: bytes = tarfile.REGTYPE, mode: str = "w") -> None:
    """A shard with one image for each class. `kind` is the type of the images' tar members."""
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        for i, label in enumerate(classes):
            for ending, content in (("cls", label), ("png", picture(i))):
                member = tarfile.TarInfo(f"{i}.{ending}")
                member.type = kind if ending == "png" else tarfile.REGTYPE
                member.size = len(content) if member.isreg() else 0
                archive.addfile(member, io.BytesIO(content))


def samples(root: Path) -> None:
    root.mkdir()
    (root / "train").write_text("1 1:0.5 2:1\n-1 1:2 2:0.1\n1 1:3\n-1 2:7\n")


def nothing(root: Path) -> None:
    """Write nothing, or spoil nothing."""


# ------------------------------------------------------------------- what goes wrong


def put(name: str, content: bytes = b"") -> Write:
    def write(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    return write


def change(name: str, how: Callable[[bytes], bytes]) -> Write:
    return lambda root: (root / name).write_bytes(how((root / name).read_bytes()))


def cut(name: str, keep: int) -> Write:
    return change(name, lambda content: content[:keep])


def remove(name: str) -> Write:
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


def empty(name: str) -> Write:
    def do(root: Path) -> None:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)

    return do


def pipe(name: str) -> Write:
    def do(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).unlink(missing_ok=True)
        os.mkfifo(root / name)

    return do


def link(name: str, target: str) -> Write:
    def do(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(target)

    return do


def rename(name: str, new: str | bytes) -> Write:
    def do(root: Path) -> None:
        os.rename(os.fsencode(root / name), os.path.join(os.fsencode(root), os.fsencode(new)))

    return do


def both(*spoils: Write) -> Write:
    return lambda root: [spoil(root) for spoil in spoils]


def write_table(changed: arrow.Table, name: str = "train-0.parquet") -> Write:
    return lambda root: parquet.write_table(changed, root / name)


def write_tar(*args: object, name: str = "train-0.tar") -> Write:
    return lambda root: tar(root / name, *args)  # type: ignore[arg-type]


def wide_png(width: int) -> bytes:
    """A PNG whose header, with a correct checksum, claims a square of this many pixels a side."""
    data = picture(0)
    header = b"IHDR" + struct.pack(">2I", width, width) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def wide_jpeg(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">2H", 65_000, 65_000) + data[at + 4 :]


def idx(*numbers: int, content: bytes = b"") -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers) + content


NAMES = json.dumps({"info": {"features": {"label": {"names": ["cat", "dog"]}}}})
OTHERS = NAMES.replace("dog", "owl")

SMALL = "dataset=cifar10 dataset.root={root} dataset.download=false"
FILES = "dataset=imagefolder dataset.root={root} dataset.workers=0"
NET = "dataset=imagenet dataset.root={root} dataset.workers=0"
MNIST = "dataset=mnist dataset.root={root} dataset.download=false"
FASHION = "dataset=fashion_mnist dataset.root={root} dataset.download=false"
LIBSVM = "dataset=libsvm dataset.root={root}/train"
IMAGES, LABELS = "MNIST/raw/train-images-idx3-ubyte", "MNIST/raw/train-labels-idx1-ubyte"
LINES = "1 1:0.5\n-1 1:2\n"
