"""The small image benchmarks: the official release, or a tree of image files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from tqdm import tqdm

from corridor_exp.datasets.cache import kept
from corridor_exp.datasets.download import fetch
from corridor_exp.datasets.resident import Arrays, Augmentation, ResidentDataset
from corridor_exp.errors import RunError
from corridor_exp.files import regular


def cifar10(*, augment: bool = False, **options: Any) -> ResidentDataset:
    """CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 images of 32 × 32 in 10 classes. `options`: see `_small`."""
    return _small(torchvision.datasets.CIFAR10, "RGB", Augmentation(augment, augment), **options)


def cifar100(*, augment: bool = False, **options: Any) -> ResidentDataset:
    """CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 images of 32 × 32 in 100 classes."""
    return _small(torchvision.datasets.CIFAR100, "RGB", Augmentation(augment, augment), **options)


def mnist(*, augment: bool = False, **options: Any) -> ResidentDataset:
    """MNIST (LeCun 1998): 60,000 + 10,000 digits of 28 × 28. Never flipped."""
    return _small(torchvision.datasets.MNIST, "L", Augmentation(augment, False), **options)


def fashion_mnist(*, augment: bool = False, **options: Any) -> ResidentDataset:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 garments of 28 × 28."""
    return _small(torchvision.datasets.FashionMNIST, "L", Augmentation(augment, augment), **options)


def _small(
    release: Any, mode: str, augment: Augmentation, *, root: str, download: bool, **options: Any
) -> ResidentDataset:
    """Read `root`: class folders if it has a folder `train`, else the release, downloaded there if it is missing."""
    folder = Path(root).expanduser()
    if (folder / "train").is_dir():
        train, test = (_image_tree(folder / split, mode) for split in ("train", "test"))
    else:
        train, test = (_official(release, folder, train, download) for train in (True, False))
    return ResidentDataset(train, test, augment=augment, **options)


def _official(release: Any, folder: Path, train: bool, download: bool) -> Arrays:
    try:
        try:
            data = release(str(folder), train=train, download=False)
        except RuntimeError:
            if not download:
                raise
            if hasattr(release, "tgz_md5"):  # CIFAR's one large file, which torchvision then unpacks
                fetch(release.url, folder / release.filename, release.tgz_md5)
            data = release(str(folder), train=train, download=True)
    except (OSError, RuntimeError) as error:  # no network, no space; missing, or a checksum that does not match
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"no {release.__name__} under {folder.absolute()} ({first}). Point dataset.root at it or at a folder "
            "with train/<class>/ and test/<class>/ images, or set dataset.download=true with a network, "
            "or take dataset=digits, which needs neither"
        ) from error
    images = np.asarray(data.data)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return Arrays(images, np.asarray(data.targets, dtype=np.int64))


def _image_tree(folder: Path, mode: str) -> Arrays:
    """Decode folder/<class>/<image> once; later runs read the cached array, as long as no file has changed."""
    if not folder.is_dir():
        raise RunError(f"{folder} is missing: dataset.root needs train/<class>/ and test/<class>/, or the release")
    tree = torchvision.datasets.ImageFolder(str(folder), loader=_Decoder(mode))

    def decode() -> dict[str, np.ndarray]:
        decoded = [tree[i][0] for i in tqdm(range(len(tree)), desc=f"decoding {folder}", unit="image", mininterval=1)]
        if len({image.shape for image in decoded}) > 1:
            raise RunError(f"the images under {folder} differ in size; take dataset=imagefolder, which crops them")
        return {"images": np.stack(decoded), "labels": np.asarray(tree.targets, dtype=np.int64)}

    arrays = kept(decode, mode, tree.samples)
    return Arrays(arrays["images"], arrays["labels"])


class _Decoder:
    """An image file as channels × height × width, uint8."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def __call__(self, path: str) -> np.ndarray:
        from PIL import Image

        try:
            with Image.open(regular(Path(path))) as image:
                pixels = np.asarray(image.convert(self.mode))
        except (OSError, SyntaxError, ValueError) as error:  # PIL's
            raise RunError(f"cannot read the image {path}: {error}") from error
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
