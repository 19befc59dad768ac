"""Random access to the encoded images of a large data set: in class folders, parquet shards or tar shards.

Images are numbered in the sorted order of folders and files, or of shards and the records in each.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from corridor_exp.datasets.base import renumbered
from corridor_exp.datasets.cache import cached
from corridor_exp.datasets.tree import image_tree
from corridor_exp.errors import RunError, extra
from corridor_exp.files import regular

IMAGES = ("jpg", "jpeg", "png", "webp")  # file endings of an image in a webdataset sample
MOST_CLASSES = 1 << 20  # more than any data set has: a larger label cannot be a class


class Source(Protocol):
    """Numbered, encoded images with labels."""

    place: Path  # the folder, or the first shard
    labels: np.ndarray
    names: list[str]  # of the classes, by number; the number itself if the files do not name them
    is_named: bool

    def read(self, number: int) -> bytes:
        """The encoded bytes of an image. Raises `OSError` if they cannot be read."""
        ...

    def name(self, number: int) -> str:
        """The file and place of an image, for messages."""
        ...


def find_source(root: Path, names: Sequence[str]) -> Source | None:
    """The images of the first split that exists, in root/NAME or in shards root/NAME-* or root/data/NAME-*."""
    for name in names:
        for kind, ending in ((Parquet, "parquet"), (Tar, "tar")):
            for pattern in (f"{name}/*.{ending}", f"{name}-*.{ending}", f"data/{name}-*.{ending}"):
                if shards := sorted(root.glob(pattern)):
                    return kind(shards)
        if (root / name).is_dir():
            return Folder(root / name)
    return None


def training_numbers(test: Source, train: Source) -> np.ndarray:
    """The labels of `test`, where each class has its number in `train`. Classes are matched by name.

    If one of two sets of shards has no names, their numbers are taken as equal. Raises `RunError` for an unknown class.
    """
    if isinstance(test, Folder) or isinstance(train, Folder) or (test.is_named and train.is_named):
        names, training = test.names, train.names
    else:
        names, training = ([str(number) for number in range(len(source.names))] for source in (test, train))
    return renumbered(test.labels, names, training, test.place)


class Folder:
    """Class folders: <class>/<image>."""

    is_named = True

    def __init__(self, folder: Path) -> None:
        self.place = folder
        self.paths, self.labels, self.names = image_tree(folder)

    def read(self, number: int) -> bytes:
        return regular(Path(self.paths[number])).read_bytes()

    def name(self, number: int) -> str:
        return self.paths[number]


class Parquet:
    """Shards as on the Hugging Face Hub: a struct `image` with `bytes`, and an integer `label`.

    A row group is read as a whole, so one image costs as much as its whole group. The group that was read last stays in
    memory, which makes reading in order fast.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        try:
            import pyarrow as arrow
            from pyarrow import parquet
        except ImportError:
            raise RunError(f"{shards[0]} needs pyarrow: {extra('parquet')}") from None
        self.shards, self.parquet = shards, parquet
        self.errors = (arrow.ArrowException, OSError)
        self.metadata, labels, groups = [], [], []
        for number, shard in enumerate(shards):
            try:
                with parquet.ParquetFile(regular(shard)) as file:
                    _refuse_other_columns(file.schema_arrow, arrow.types)
                    label = file.read(["label"], use_threads=False)["label"]
                    if label.null_count:
                        raise ValueError(f"{label.null_count} rows have no label")
                    labels.append(label.to_numpy().astype(np.int64))
                    self.metadata.append(file.metadata)
            except (*self.errors, KeyError, TypeError, ValueError) as error:
                raise RunError(
                    f"cannot read the shard {shard}: {_first_line(error)}; it needs image.bytes and label, "
                    "bytes and a whole number"
                ) from error
            sizes = [self.metadata[-1].row_group(i).num_rows for i in range(self.metadata[-1].num_row_groups)]
            groups += [(number, group, size) for group, size in enumerate(sizes)]
        self.labels = np.concatenate(labels)
        self.groups = np.asarray(groups).reshape(-1, 3)
        self.ends = self.groups[:, 2].cumsum()
        described = _described_classes(self.metadata[0])
        self.place, self.is_named = shards[0], bool(described)
        self.names = _names(self.labels, shards[0], described)
        self.newest: tuple[int, Any] = (-1, None)

    def read(self, number: int) -> bytes:
        place, row = self._place(number)
        if self.newest[0] != place:
            shard, group, _ = self.groups[place]
            try:
                with self.parquet.ParquetFile(self.shards[shard], metadata=self.metadata[shard]) as file:
                    table = file.read_row_group(int(group), ["image.bytes"], use_threads=False)
            except self.errors as error:
                raise OSError(_first_line(error)) from error
            self.newest = place, table["image"].combine_chunks().field("bytes")
        encoded: bytes | None = self.newest[1][row].as_py()
        if encoded is None:
            raise OSError("there are no bytes")
        return encoded

    def name(self, number: int) -> str:
        place, _ = self._place(number)
        shard = self.groups[place, 0]
        first = self.groups[self.groups[:, 0] < shard, 2].sum()
        return f"{self.shards[shard]}, row {number - first}"

    def _place(self, number: int) -> tuple[int, int]:
        """The row group of an image, and the row in it."""
        place = int(np.searchsorted(self.ends, number, side="right"))
        return place, int(number - (self.ends[place] - self.groups[place, 2]))


class Tar:
    """Shards as webdataset writes them: NAME.jpg and NAME.cls for each sample, where the class is a number.

    The place of each image is found once and stored in the user's cache.
    """

    is_named = False

    def __init__(self, shards: Sequence[Path]) -> None:
        self.shards, self.place = shards, shards[0]
        index = cached(self._index, "tar", [(str(shard), "") for shard in shards])
        self.places, self.labels = index["places"], index["labels"]
        self.names = _names(self.labels, shards[0])

    def _index(self) -> dict[str, np.ndarray]:
        """The place of each image (shard, first byte, length) and its label."""
        places: list[tuple[int, int, int]] = []
        labels: list[np.int64] = []
        with tqdm(self.shards, desc="indexing", unit="shard", mininterval=1) as bar:
            for number, shard in enumerate(bar):
                images, classes = self._samples(shard)
                places += [(number, *images[sample]) for sample in images]
                labels += [classes[sample] for sample in images]
        return {"places": np.asarray(places, dtype=np.int64), "labels": np.asarray(labels, dtype=np.int64)}

    def _samples(self, shard: Path) -> tuple[dict[str, tuple[int, int]], dict[str, np.int64]]:
        """For each sample of a shard, by name: the image's first byte and length, and the class."""
        images: dict[str, tuple[int, int]] = {}
        classes: dict[str, np.int64] = {}
        member = None
        try:
            with tarfile.open(regular(shard), "r:") as archive:
                for member in archive:
                    folder, _, file = member.name.rpartition("/")
                    sample, _, field = file.partition(".")
                    if field.lower() in IMAGES:
                        images[f"{folder}/{sample}"] = member.offset_data, member.size
                    elif field == "cls" and (label := archive.extractfile(member)):
                        classes[f"{folder}/{sample}"] = np.int64(int(label.read()))
        except (OSError, tarfile.TarError, ValueError, OverflowError, LookupError) as error:
            after = f", at {member.name}" if member else ""
            raise RunError(f"cannot read the shard {shard}{after}: {_first_line(error)}") from error
        if images.keys() != classes.keys() or not images:
            odd = ", ".join(sorted(images.keys() ^ classes.keys())[:3]) or "it is empty"
            raise RunError(f"{shard} does not have NAME.jpg and NAME.cls for each sample: {odd}")
        return images, classes

    def read(self, number: int) -> bytes:
        shard, start, length = self.places[number]
        with open(self.shards[shard], "rb") as file:
            file.seek(start)
            return file.read(length)

    def name(self, number: int) -> str:
        shard, start, _ = self.places[number]
        try:
            with open(self.shards[shard], "rb") as file:
                file.seek(start - tarfile.BLOCKSIZE)
                header = file.read(tarfile.BLOCKSIZE)
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").name
        except (OSError, tarfile.TarError):  # the shard was lost or changed after it was indexed
            member = f"byte {start}"
        return f"{self.shards[shard]}, {member}"


def _names(labels: np.ndarray, shard: Path, described: Sequence[str] = ()) -> list[str]:
    """The names of the classes, by number."""
    shards = f"{shard} and the shards beside it"
    if not len(labels):
        raise RunError(f"{shards} have no image")
    if labels.min() < 0:
        raise RunError(f"{shards} have images without a label (it is {labels.min()})")
    if labels.max() >= MOST_CLASSES:
        raise RunError(f"{shards} have the label {labels.max()}, which is no class: they are numbered from 0")
    return [*described, *(str(number) for number in range(len(described), int(labels.max()) + 1))]


def _refuse_other_columns(schema: Any, types: Any) -> None:
    """Raise `KeyError` or `TypeError` if image.bytes or label is missing or has the wrong type."""
    image, label = schema.field("image").type, schema.field("label").type
    encoded = image.field("bytes").type if types.is_struct(image) else image
    if not types.is_struct(image) or not (types.is_binary(encoded) or types.is_large_binary(encoded)):
        raise TypeError(f"image is {image}")
    if not types.is_integer(label):
        raise TypeError(f"label is {label}")


def _described_classes(metadata: Any) -> list[str]:
    """The class names in a shard's own description, as on the Hugging Face Hub; none without a description."""
    try:
        described = json.loads((metadata.metadata or {}).get(b"huggingface", "{}"))
        return [str(name) for name in described["info"]["features"]["label"]["names"]]
    except (ValueError, LookupError, TypeError):
        return []


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
