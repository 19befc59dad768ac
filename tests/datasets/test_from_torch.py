"""torch data sets as data sets of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from corridor_exp.datasets.from_torch import build_dataset
from corridor_exp.errors import RunError, UsageError

RUN: dict[str, Any] = {"device": torch.device("cpu"), "seed": 0, "channels_last": False}


class Option:
    def __init__(self, made: Callable[..., Any]) -> None:
        self.made = made

    def factory(self) -> Callable[..., Any]:
        return self.made

    def build(self, **kwargs: Any) -> Any:
        return self.made(**kwargs)


class Pictures(torch.utils.data.Dataset[Any]):
    """As torchvision has them: PIL images, one of each class, for a split."""

    def __init__(self, train: bool = True) -> None:
        self.bias = 0 if train else 100

    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return Image.fromarray(np.full((4, 4, 3), 50 * i + self.bias, dtype=np.uint8)), i


class Listed(torch.utils.data.Dataset[Any]):
    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        return self.rows[i]


def test_pictures_are_standardised_and_have_two_splits() -> None:
    data = build_dataset(Option(Pictures), **RUN)
    assert (data.shape, data.train_size, data.test_size) == ((3, 4, 3, "small"), 3, 3)
    (batch,) = data.train_batches(0, 3)
    assert batch.x.shape == (3, 3, 4, 4)
    torch.testing.assert_close(batch.x.mean((0, 2, 3)), torch.zeros(3))
    torch.testing.assert_close(batch.x.std((0, 2, 3), unbiased=False), torch.ones(3))
    for x, y in zip(batch.x, batch.y, strict=True):  # grey 0, 50, 100: deviations −1.22, 0, 1.22
        assert x[0, 0, 0].item() == pytest.approx((y.item() - 1) * 1.5**0.5, abs=1e-5)


def test_tensors_are_taken_as_they_are() -> None:
    x, y = torch.randn(5, 2), torch.randn(5)
    data = build_dataset(Option(lambda: TensorDataset(x, y)), **RUN)
    assert (data.shape, data.test_size) == ((2, 1, 1, "none"), 0)
    (batch,) = data.train_batches(0, 5)
    order = [int((x == row).all(1).nonzero()) for row in batch.x]
    torch.testing.assert_close(batch.y, y[order][:, None])
    outputs = torch.zeros(5, 1)
    torch.testing.assert_close(data.loss(outputs, batch.y), y.square().mean() / 2)


def test_a_function_may_return_two_data_sets_and_ask_for_the_seed() -> None:
    asked = []

    def both(seed: int) -> tuple[TensorDataset, TensorDataset]:
        asked.append(seed)
        train, test = torch.randn(6, 1, 8, 8), torch.randn(2, 1, 8, 8)
        return TensorDataset(train, torch.tensor([0, 1, 2, 0, 1, 2])), TensorDataset(test, torch.tensor([3, 0]))

    data = build_dataset(Option(both), **RUN)
    assert asked == [0]
    assert (data.shape, data.train_size, data.test_size) == ((1, 8, 4, "small"), 6, 2)


@pytest.mark.parametrize("made", [None, [1], (1, 2, 3)])
def test_anything_else_is_refused(made: object) -> None:
    with pytest.raises(UsageError, match="return a torch Dataset, or two as a tuple"):
        build_dataset(Option(lambda: made), **RUN)


def test_grey_bytes_are_images_and_numbers_a_table_of_one_column() -> None:
    grey = TensorDataset(torch.randint(0, 255, (6, 8, 8), dtype=torch.uint8), torch.arange(6) % 2)
    assert build_dataset(Option(lambda: grey), **RUN).shape == (1, 8, 2, "small")
    rows = [(np.zeros(5, dtype=np.uint8), label) for label in (0, 1)]
    assert build_dataset(Option(lambda: Listed(rows)), **RUN).shape == (5, 1, 2, "none")
    numbers = TensorDataset(torch.arange(6.0), torch.arange(6) % 2)
    assert build_dataset(Option(lambda: numbers), **RUN).shape == (1, 1, 2, "none")


@pytest.mark.parametrize(
    ("labels", "said"), [([0, 0], "all of one class"), ([-1, 1], "label -1"), ([], "without rows")]
)
def test_labels_that_cannot_be_learnt_are_refused(labels: list[int], said: str) -> None:
    data = TensorDataset(torch.randn(len(labels), 3), torch.tensor(labels, dtype=torch.int64))
    with pytest.raises((UsageError, RunError), match=said):
        build_dataset(Option(lambda: data), **RUN)
