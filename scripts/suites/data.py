"""Batches ready for the model: ours beside torchvision's transforms in a DataLoader, both standardised, in float32."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from corridor_exp.datasets import imagefolder
from corridor_exp.datasets.resident import Arrays, Augmentation, ResidentDataset
from suites.measure import Ratios, interleaved, one_thread

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "imagenet-sample.tar"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
STANDARDISED = [T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(MEAN, STD)]


class Pictures(Dataset):
    """As torchvision's CIFAR10 serves them: an array in memory, an image of it at a time."""

    def __init__(self, arrays: Arrays, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.pixels, self.labels = np.ascontiguousarray(arrays.x.transpose(0, 2, 3, 1)), arrays.y.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def exhaust(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


@one_thread()
def cifar(repeats: int | None) -> Ratios:
    """An epoch of 10,000 images of CIFAR-10's size, cropped after padding and flipped, in batches of 128.

    Ours on one thread, the peer's in two processes.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (10_000, 3, 32, 32), dtype=np.uint8)
    arrays = Arrays(pixels, np.arange(10_000) % 10)
    ours = ResidentDataset(
        arrays, arrays, device=torch.device("cpu"), seed=0, augment=Augmentation(crop=True, flip=True), test_size=10
    )
    peer = DataLoader(
        Pictures(arrays, T.Compose([T.RandomCrop(32, padding=4), *STANDARDISED])),
        batch_size=128,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
    )
    tasks = {
        "CIFAR-10, ours": lambda: exhaust(ours.train_batches(0, 128)),
        "CIFAR-10, DataLoader, 2 workers": lambda: exhaust(peer),
    }
    mine, theirs = interleaved(tasks, repeats or 7).values()
    return {"data_cifar": theirs / mine}


@one_thread()
def imagenet(repeats: int | None, size: int = 224) -> Ratios:
    """An epoch of JPEGs, cropped to so many pixels, in batches of 50, decoded in one process on one thread."""
    with photographs() as root:
        ours = imagefolder(
            root=str(root), device=torch.device("cpu"), seed=0, image_size=size, workers=0, mean=MEAN, std=STD
        )
        peer = DataLoader(
            ImageFolder(str(root / "train"), T.Compose([T.RandomResizedCrop(size), *STANDARDISED])),
            batch_size=50,
            shuffle=True,
        )
        tasks = {
            f"{ours.train_size} JPEGs at {size}, ours": lambda: exhaust(ours.train_batches(0, 50)),
            f"{ours.train_size} JPEGs at {size}, ImageFolder": lambda: exhaust(peer),
        }
        mine, theirs = interleaved(tasks, repeats or 9).values()
    return {"data_imagenet" if size == 224 else f"data_imagenet_{size}": theirs / mine}


@contextmanager
def photographs() -> Iterator[Path]:
    """A folder with `train/<class>/`: the sample of ImageNet, or else scikit-learn's two photographs, many times."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if SAMPLE.exists():
            with tarfile.open(SAMPLE) as archive:
                archive.extractall(root)
        else:
            print("  the sample of ImageNet is not here; scikit-learn's two photographs stand in for it")
            for index, pixels in enumerate(load_sample_images().images * 100):
                folder = root / "train" / str(index % 2)
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{index}.jpg", quality=95)
        yield root


def data(repeats: int | None) -> Ratios:
    return {**cifar(repeats), **imagenet(repeats), **imagenet(repeats, 64)}
