"""Where the encoded images of a large data set lie: class folders, parquet shards or tar shards. Random access to each.

An image's number is its place in the sorted order of folders and files, or of shards and records within a shard.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torchvision.datasets import ImageFolder
from tqdm import tqdm

from corridor_exp.datasets.cache import kept
from corridor_exp.errors import RunError
from corridor_exp.files import regular

IMAGES = ("jpg", "jpeg", "png", "webp")  # of a webdataset sample


class Source(Protocol):
    labels: np.ndarray
    classes: int

    def read(self, number: int) -> bytes:
        """An image as it is encoded. Raises `OSError` where its place cannot be read."""
        ...

    def name(self, number: int) -> str:
        """Where an image lies, for people."""
        ...


def find_source(root: Path, names: Sequence[str]) -> Source | None:
    """The images of the first split that is there: below root/NAME, or in shards root/NAME-* or root/data/NAME-*."""
    for name in names:
        for kind, ending in ((Parquet, "parquet"), (Tar, "tar")):
            for pattern in (f"{name}/*.{ending}", f"{name}-*.{ending}", f"data/{name}-*.{ending}"):
                if shards := sorted(root.glob(pattern)):
                    return kind(shards)
        if (root / name).is_dir():
            return Folder(root / name)
    return None


class Folder:
    """<class>/<image>."""

    def __init__(self, folder: Path) -> None:
        try:
            tree = ImageFolder(str(folder))
        except FileNotFoundError as error:
            raise RunError(f"{folder} is not a tree of class folders with images: {error}") from error
        self.paths = [path for path, _ in tree.samples]
        self.labels, self.classes = np.asarray(tree.targets), len(tree.classes)

    def read(self, number: int) -> bytes:
        with open(regular(Path(self.paths[number])), "rb") as file:
            return file.read()

    def name(self, number: int) -> str:
        return self.paths[number]


class Parquet:
    """Shards as on the Hugging Face Hub: a struct `image` with `bytes`, and an integer `label`.

    A row group is read as a whole, so that one image costs as much as all of its group; the last group is kept, for
    reading in order.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        try:
            import pyarrow as arrow
            from pyarrow import parquet
        except ImportError:
            raise RunError(f"{shards[0]} needs pyarrow: pip install 'corridor-exp[parquet]'") from None
        self.shards, self.parquet = shards, parquet
        self.errors = (arrow.ArrowException, OSError)
        self.metadata, labels, groups = [], [], []
        for number, shard in enumerate(shards):
            try:
                with parquet.ParquetFile(regular(shard)) as file:
                    file.schema_arrow.field("image").type.field("bytes")
                    labels.append(file.read(["label"], use_threads=False)["label"].to_numpy().astype(np.int64))
                    self.metadata.append(file.metadata)
            except (*self.errors, KeyError) as error:
                raise RunError(
                    f"cannot read the shard {shard}: {_first_line(error)}; it needs image.bytes and label"
                ) from error
            sizes = [self.metadata[-1].row_group(i).num_rows for i in range(self.metadata[-1].num_row_groups)]
            groups += [(number, group, size) for group, size in enumerate(sizes)]
        self.labels = np.concatenate(labels)
        self.groups = np.asarray(groups).reshape(-1, 3)
        self.ends = self.groups[:, 2].cumsum()
        self.classes = _classes(self.labels, shards[0], _named_classes(self.metadata[0]))
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
    """Shards as webdataset writes them: NAME.jpg and NAME.cls, the class as a number, one sample after another.

    Where each image lies is found once and kept in the user's cache.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self.shards = shards
        index = kept(self._index, "tar", [(str(shard), "") for shard in shards])
        self.places, self.labels = index["places"], index["labels"]
        self.classes = _classes(self.labels, shards[0])

    def _index(self) -> dict[str, np.ndarray]:
        """Of each image the shard, the first byte and the length; and its label."""
        places: list[tuple[int, int, int]] = []
        labels: list[int] = []
        for number, shard in enumerate(tqdm(self.shards, desc="indexing", unit="shard", mininterval=1)):
            images: dict[str, tuple[int, int, int]] = {}
            classes: dict[str, int] = {}
            member = None
            try:
                with tarfile.open(regular(shard), "r:") as archive:
                    for member in archive:
                        folder, _, file = member.name.rpartition("/")
                        sample, _, field = file.partition(".")
                        if field.lower() in IMAGES:
                            images[f"{folder}/{sample}"] = number, member.offset_data, member.size
                        elif field == "cls":
                            classes[f"{folder}/{sample}"] = int(archive.extractfile(member).read())  # type: ignore[union-attr]
            except (OSError, tarfile.TarError, ValueError) as error:
                after = f", at {member.name}" if member else ""
                raise RunError(f"cannot read the shard {shard}{after}: {_first_line(error)}") from error
            if images.keys() != classes.keys() or not images:
                odd = ", ".join(sorted(images.keys() ^ classes.keys())[:3]) or "it is empty"
                raise RunError(f"{shard} does not have NAME.jpg and NAME.cls for each sample: {odd}")
            places += images.values()
            labels += [classes[sample] for sample in images]
        return {"places": np.asarray(places, dtype=np.int64), "labels": np.asarray(labels, dtype=np.int64)}

    def read(self, number: int) -> bytes:
        shard, start, length = self.places[number]
        with open(self.shards[shard], "rb") as file:
            file.seek(start)
            return file.read(length)

    def name(self, number: int) -> str:
        shard, start, _ = self.places[number]
        with open(self.shards[shard], "rb") as file:
            file.seek(start - tarfile.BLOCKSIZE)
            header = file.read(tarfile.BLOCKSIZE)
        return f"{self.shards[shard]}, {tarfile.TarInfo.frombuf(header, 'utf-8', 'surrogateescape').name}"


def _classes(labels: np.ndarray, shard: Path, named: int = 0) -> int:
    if labels.min() < 0:
        raise RunError(f"{shard} and the shards beside it have images without a label (it is {labels.min()})")
    return max(int(labels.max()) + 1, named)


def _named_classes(metadata: Any) -> int:
    """How many classes a shard's own description names, as that of the Hub does; 0 if it has none."""
    described = json.loads((metadata.metadata or {}).get(b"huggingface", "{}"))
    return len(described.get("info", {}).get("features", {}).get("label", {}).get("names", []))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
