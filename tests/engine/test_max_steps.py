"""A run that ends within an epoch, by max_steps."""

from __future__ import annotations

import pytest

from corridor_exp.runs import records
from tests.conftest import engine_of, same, weights, without_time

SHORT = "probe=none", "log_every=1", "optim=sgd"  # four steps an epoch


def test_the_last_step_is_evaluated_and_the_epoch_is_not_called_whole() -> None:
    engine, emitted = engine_of(*SHORT, "max_steps=6", "eval_every=5")
    assert engine.train() == "completed"
    assert [r["step"] for r in emitted] == list(range(6))
    assert [records.TEST_ACCURACY in r for r in emitted] == [False] * 5 + [True]
    assert [records.TRAIN_EPOCH_LOSS in r for r in emitted] == [False] * 3 + [True, False, False]
    assert engine.progress.last[records.TEST_LOSS] == engine.evaluate()[records.TEST_LOSS]
    assert engine.train() == "completed"  # nothing is left, and nothing is written again
    assert len(emitted) == 6


def test_the_run_may_go_on_to_the_same_bits() -> None:
    whole, expected = engine_of(*SHORT, "epochs=3")
    assert whole.train() == "completed"
    first, begun = engine_of(*SHORT, "epochs=3", "max_steps=6")
    assert first.train() == "completed"
    second, rest = engine_of(*SHORT, "epochs=3")
    state = first.state_dict()
    del state["skipped"]  # which older checkpoints do not have
    second.load_state_dict(state)
    assert second.train() == "completed"
    assert same(weights(second), weights(whole))
    assert without_time(begun[:-1] + rest) == without_time(expected[:5] + expected[6:])


@pytest.mark.parametrize("moment", ["before the evaluation", "during it"])
def test_a_stop_at_the_last_step_only_evaluates_again(moment: str) -> None:
    expected = engine_of(*SHORT, "max_steps=6")
    assert expected[0].train() == "completed"
    stopped, begun = engine_of(*SHORT, "max_steps=6")
    asked = iter([moment.startswith("before"), True, True])
    stopped.should_stop = lambda: stopped.progress.step == 6 and next(asked)
    assert stopped.train() == "preempted"
    assert list(asked) == [True] * (2 if moment.startswith("before") else 1)
    assert len(begun) == 5
    second, rest = engine_of(*SHORT, "max_steps=6")
    second.load_state_dict(stopped.state_dict())
    assert second.train() == "completed"
    assert same(weights(second), weights(stopped))
    assert without_time(begun + rest) == without_time(expected[1])


def test_a_run_that_was_stopped_at_its_last_step_and_goes_on_loses_no_record() -> None:
    stopped, begun = engine_of(*SHORT, "epochs=3", "max_steps=6")
    stopped.should_stop = lambda: stopped.progress.step == 6
    assert stopped.train() == "preempted"
    second, rest = engine_of(*SHORT, "epochs=3")
    second.load_state_dict(stopped.state_dict())
    assert second.train() == "completed"
    whole, expected = engine_of(*SHORT, "epochs=3")
    assert whole.train() == "completed"
    assert without_time(begun + rest) == without_time(expected)


def test_a_larger_batch_that_finds_its_epoch_done_begins_the_next_one() -> None:
    smaller, _ = engine_of(*SHORT, "dataset.drop_last=true", "batch_size=9", "max_steps=21", "epochs=3")
    assert smaller.train() == "completed"
    engine, emitted = engine_of(*SHORT, "dataset.drop_last=true", "batch_size=90", "epochs=3")
    engine.load_state_dict(smaller.state_dict())
    assert engine.position > engine.steps_per_epoch
    assert engine.total_steps == 21 + 2 * 2
    assert engine.train() == "completed"
    assert (engine.progress.step, engine.progress.epoch) == (25, 3)
    assert [r["step"] for r in emitted if r["step"] > 20] == [21, 22, 23, 24]


@pytest.mark.parametrize("metric", [records.TEST_ACCURACY, records.TEST_LOSS])
def test_the_last_step_can_be_the_best(metric: str) -> None:
    engine, _ = engine_of(*SHORT, "max_steps=2", f"checkpoint.best={metric}")
    saved = []
    engine.save = lambda state, kind="step": saved.append((kind, state["progress"]["step"]))  # type: ignore[method-assign]
    assert engine.train() == "completed"
    assert ("best", 2) in saved
