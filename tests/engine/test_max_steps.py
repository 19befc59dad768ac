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
    second.load_state_dict(first.state_dict())
    assert second.train() == "completed"
    assert same(weights(second), weights(whole))
    assert without_time(begun[:-1] + rest) == without_time(expected[:5] + expected[6:])


def test_a_stop_during_the_last_evaluation_only_evaluates_again() -> None:
    expected = engine_of(*SHORT, "max_steps=6")
    assert expected[0].train() == "completed"
    stopped, begun = engine_of(*SHORT, "max_steps=6")
    stopped.should_stop = lambda: stopped.progress.step == 6
    assert stopped.train() == "preempted"
    assert len(begun) == 5
    second, rest = engine_of(*SHORT, "max_steps=6")
    second.load_state_dict(stopped.state_dict())
    assert second.train() == "completed"
    assert same(weights(second), weights(stopped))
    assert without_time(begun + rest) == without_time(expected[1])


@pytest.mark.parametrize("metric", [records.TEST_ACCURACY, records.TEST_LOSS])
def test_the_last_step_can_be_the_best(metric: str) -> None:
    engine, _ = engine_of(*SHORT, "max_steps=2", f"checkpoint.best={metric}")
    saved = []
    engine.save = lambda state, kind="step": saved.append((kind, state["progress"]["step"]))  # type: ignore[method-assign]
    assert engine.train() == "completed"
    assert ("best", 2) in saved
