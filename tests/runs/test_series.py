from __future__ import annotations

import pytest

from corridor_exp.runs.records import TRAIN_EPOCH_LOSS, Record
from corridor_exp.runs.series import Epochs, band


def ends(*pairs: tuple[int, int]) -> list[Record]:
    """The last records of epochs, by the steps and the epochs that are done then."""
    return [{"step": steps - 1, "epoch": epochs - 1, TRAIN_EPOCH_LOSS: 1.0} for steps, epochs in pairs]


def test_steps_count_by_the_epoch_that_they_are_in() -> None:
    epochs = Epochs([{"step": 3, "epoch": 0}, *ends((10, 1), (20, 2))])
    assert [epochs.done(steps) for steps in (1, 10, 15, 20, 25)] == [0.1, 1, 1.5, 2, 2.5]
    assert epochs.ends == [(0, 0), (20, 2)]


def test_after_a_resume_with_another_batch_size_epochs_have_another_length() -> None:
    """Two epochs of 10 steps; then the batch is twice as large in the middle of the third one."""
    epochs = Epochs(ends((10, 1), (20, 2), (28, 3), (33, 4), (38, 5)))
    assert [epochs.done(steps) for steps in (10, 20, 24, 28, 33, 38, 43)] == [1, 2, 2.5, 3, 4, 5, 6]
    assert epochs.ends == [(0, 0), (20, 2), (28, 3), (38, 5)]


def test_before_an_epoch_has_ended_its_length_is_not_known() -> None:
    assert Epochs([{"step": 3, "epoch": 0}]).done(4) is None


@pytest.mark.parametrize("pairs", [[(10, 1), (10, 2)], [(10, 1), (20, 1)], [(10, 1), (5, 2)]])
def test_epochs_that_end_out_of_order_are_passed_over(pairs: list[tuple[int, int]]) -> None:
    assert Epochs(ends(*pairs)).ends == [(0, 0), (10, 1)]


def test_a_band_is_median_range_and_number() -> None:
    assert band([1.0, 2.0, 6.0]) == (2.0, 1.0, 6.0, 3)
