"""CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST, from the official release or from a tree of image files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from tqdm import tqdm

from corridor_exp.datasets.base import data_path, refuse_one_class, renumbered
from corridor_exp.datasets.cache import cached
from corridor_exp.datasets.crops import UNREADABLE, opened, refuse_damaged
from corridor_exp.datasets.download import fetch
from corridor_exp.datasets.resident import Arrays, Augmentation, ResidentDataset
from corridor_exp.datasets.tree import Tree, image_tree
from corridor_exp.errors import RunError
from corridor_exp.files import regular


def cifar10(*, augment: bool = False, **options: Any) -> ResidentDataset:
    """CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 images of 32 × 32 in 10 classes. `options`: see `_cifar_or_mnist`."""
    return _cifar_or_mnist(torchvision.datasets.CIFAR10, "RGB", Augmentation(augment, augment), **options)


def cifar100(*, augment: bool = False, **options: Any) -> ResidentDataset:
    """CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 images of 32 × 32 in 100 classes."""
    return _cifar_or_mnist(torchvision.datasets.CIFAR100, "RGB", Augmentation(augment, augment), **options)


def mnist(*, augment: bool = False, **options: Any) -> ResidentDataset:
    """MNIST (LeCun 1998): 60,000 + 10,000 digits of 28 × 28. `augment` never flips them."""
    return _cifar_or_mnist(torchvision.datasets.MNIST, "L", Augmentation(augment, False), **options)


def fashion_mnist(*, augment: bool = False, **options: Any) -> ResidentDataset:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 garments of 28 × 28."""
    return _cifar_or_mnist(torchvision.datasets.FashionMNIST, "L", Augmentation(augment, augment), **options)


def _cifar_or_mnist(
    release: Any, mode: str, augment: Augmentation, *, root: str, download: bool, **options: Any
) -> ResidentDataset:
    """Read `root`: class folders if it has a folder `train`, else the release, which is downloaded if it is missing."""
    folder = data_path(root)
    if (folder / "train").is_dir():
        train, test = _image_trees(folder, mode)
    else:
        train, test = (_official(release, folder, train, download) for train in (True, False))
    refuse_one_class(train.y, folder)
    return ResidentDataset(train, test, augment=augment, **options)


def _official(release: Any, folder: Path, train: bool, download: bool) -> Arrays:
    split = "train" if train else "test"
    try:
        _refuse_special_files(release, folder)
        try:
            data = release(str(folder), train=train, download=False)
        except RuntimeError:
            if not download:
                raise
            _download(release, folder)
            data = release(str(folder), train=train, download=True)  # unpacks the files
    except RunError:
        raise
    except Exception as error:  # torchvision's readers raise errors of any kind on unexpected bytes
        first = str(error).splitlines()[0] if str(error) else "its bytes are not what they should be"
        raise _missing(release, folder, f"{split}: {first}") from error
    images, labels = np.asarray(data.data), np.asarray(data.targets, dtype=np.int64)
    if len(images) != len(labels) or not len(labels) or labels.max() >= len(data.classes):
        raise RunError(
            f"{release.__name__} under {folder.absolute()} is damaged: its {split} files have {len(images)} images and "
            f"{len(labels)} labels, the largest {labels.max(initial=0)}; delete them, and set dataset.download=true"
        )
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return Arrays(images, labels)


def _download(release: Any, folder: Path) -> None:
    """Download the files of the release, without unpacking them."""
    try:
        for url, path, md5 in _archives(release, folder):
            fetch(url, path, md5)
    except RunError as error:
        raise _missing(release, folder, str(error)) from error


def _missing(release: Any, folder: Path, why: str) -> RunError:
    return RunError(
        f"no {release.__name__} under {folder.absolute()} ({why}). Point dataset.root at it or at a folder with "
        "train/<class>/ and test/<class>/ images, or set dataset.download=true with a network, or take "
        "dataset=digits, which needs neither"
    )


def _archives(release: Any, folder: Path) -> list[tuple[str, Path, str]]:
    """The files of a release: address, path and checksum of each."""
    if hasattr(release, "tgz_md5"):
        return [(release.url, folder / release.filename, release.tgz_md5)]
    raw = folder / release.__name__ / "raw"
    return [(release.mirrors[0] + name, raw / name, md5) for name, md5 in release.resources]


def _refuse_special_files(release: Any, folder: Path) -> None:
    """Raise `UnreadableError` if one of the release's files is a pipe or a device: torchvision would wait for it."""
    if hasattr(release, "base_folder"):
        patterns = [f"{release.base_folder}/*", f"{release.filename}*"]
    else:
        patterns = [f"{release.__name__}/*/*"]
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        if not path.is_dir():
            regular(path)


def _image_trees(folder: Path, mode: str) -> tuple[Arrays, Arrays]:
    """The images of folder/train and folder/test. Classes are numbered as in training."""
    if not (folder / "test").is_dir():
        raise RunError(
            f"{folder / 'test'} is missing: dataset.root needs train/<class>/ and test/<class>/, or the release"
        )
    train, test = image_tree(folder / "train"), image_tree(folder / "test")
    test = test._replace(labels=renumbered(test.labels, test.names, train.names, folder / "test"))
    return _decoded(folder / "train", train, mode), _decoded(folder / "test", test, mode)


def _decoded(folder: Path, tree: Tree, mode: str) -> Arrays:
    """The decoded images of a tree. Later runs read them from the cache, as long as no file has changed."""

    def decode() -> dict[str, np.ndarray]:
        with tqdm(tree.paths, desc=f"decoding {folder}", unit="image", mininterval=1) as bar:
            images = [_pixels(path, mode) for path in bar]
        for path, image in zip(tree.paths, images, strict=True):
            if image.shape != images[0].shape:
                raise RunError(f"{path} differs in size from the first image; take dataset=imagefolder, which crops")
        return {"images": np.stack(images), "labels": tree.labels}

    try:
        arrays = cached(decode, mode, zip(tree.paths, tree.labels, strict=True))
    except OSError as error:
        raise RunError(f"cannot read the image {error.filename}: {error.strerror}") from error
    return Arrays(arrays["images"], arrays["labels"])


def _pixels(path: str, mode: str) -> np.ndarray:
    """An image file as channels × height × width, uint8."""
    try:
        data = regular(Path(path)).read_bytes()
        with opened(data) as image:
            refuse_damaged(data)
            pixels = np.asarray(image.convert(mode))
    except UNREADABLE as error:
        raise RunError(f"cannot read the image {path}: {error}") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
