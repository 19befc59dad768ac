"""Trees of class folders, <class>/<image>: the images in torchvision's order, and their classes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from corridor_exp.errors import RunError


class Tree(NamedTuple):
    """Image files, the class number of each, and the names of the classes by number."""

    paths: list[str]
    labels: np.ndarray
    names: list[str]


def image_tree(folder: Path) -> Tree:
    """The images of a split, sorted by class, folder and file as in `torchvision.datasets.ImageFolder`.

    A link to a folder elsewhere is followed once. A link to a folder that contains the split, or lies in it, is not
    followed. Raises `RunError` if there is no class, if a class has no image, or if a folder cannot be read.
    """
    paths: list[str] = []
    labels: list[int] = []
    seen: set[str] = set()
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        for number, name in enumerate(names):
            found = [
                path
                for top, _, files in sorted(_walk(str(folder), os.path.join(folder, name), seen))
                for path in (os.path.join(top, file) for file in sorted(files))
                if path.lower().endswith(IMG_EXTENSIONS)
            ]
            if not found:
                raise RunError(
                    f"the class folder {folder / name} has no image of its own ({' '.join(IMG_EXTENSIONS)}): "
                    "fill it, or delete it"
                )
            paths += found
            labels += [number] * len(found)
    except OSError as error:
        raise RunError(f"cannot read {error.filename or folder}: {error.strerror or error}") from error
    if not names:
        raise RunError(f"{folder} is not a tree of class folders: it needs <class>/<image>")
    return Tree(paths, np.asarray(labels, dtype=np.int64), names)


def _walk(split: str, top: str, seen: set[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` that follows links, but visits each real folder once. So a link to itself adds no image."""
    split = os.path.realpath(split)

    def is_new(folder: str) -> bool:
        real = os.path.realpath(folder)
        if os.path.islink(folder) and os.path.commonpath([real, split]) in (real, split):
            return False
        is_new = real not in seen
        seen.add(real)
        return is_new

    if is_new(top):
        for root, folders, files in os.walk(top, followlinks=True, onerror=_raise):
            folders[:] = [name for name in sorted(folders) if is_new(os.path.join(root, name))]
            yield root, folders, files


def _raise(error: OSError) -> NoReturn:
    raise error
