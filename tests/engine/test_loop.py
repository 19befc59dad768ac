"""The loop, on digits: what it records, when it stops, and that it can be cut anywhere without a trace."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from corridor_exp.engine.loop import Engine
from corridor_exp.runs import records
from tests.conftest import assert_resumes_to_the_same_bits, engine_of, same, weights, without_time


def test_steps_epochs_and_the_mean_loss_of_an_epoch() -> None:
    engine, emitted = engine_of("epochs=3", "log_every=1", "optim=sgd", "probe=none")
    assert engine.train() == "completed"
    assert [r["step"] for r in emitted] == list(range(12))
    assert [r["epoch"] for r in emitted] == [0] * 4 + [1] * 4 + [2] * 4
    last = [r for r in emitted if records.TRAIN_EPOCH_LOSS in r]
    assert [r["step"] for r in last] == [3, 7, 11]
    first_epoch = [r[records.TRAIN_LOSS] for r in emitted[:4]]
    sizes = [64, 64, 64, 8]
    mean = sum(loss * n for loss, n in zip(first_epoch, sizes, strict=True)) / 200
    assert last[0][records.TRAIN_EPOCH_LOSS] == pytest.approx(mean, rel=1e-6)
    assert all(records.TEST_ACCURACY in r for r in last)


def test_train_metrics_belong_to_the_step_before_its_update() -> None:
    engine, emitted = engine_of("max_steps=1", "log_every=1", "probe=none")
    batch = next(iter(engine.dataset.train_batches(0, 64)))
    E, g = engine.objective.gradient(batch)
    engine.train()
    norm_sq = sum(t.double().square().sum() for t in g).item()
    (record,) = emitted
    assert record["step"] == 0
    assert record[records.TRAIN_LOSS] == pytest.approx(E.item(), rel=1e-6)
    assert record[records.TRAIN_LR] == pytest.approx(E.item() / norm_sq, rel=1e-5)
    assert record[records.TRAIN_GRAD_NORM] == pytest.approx(math.sqrt(norm_sq), rel=1e-5)


def test_the_last_smaller_batch_is_kept_unless_it_is_not_wanted() -> None:
    assert engine_of()[0].steps_per_epoch == 4
    assert engine_of("dataset.drop_last=true")[0].steps_per_epoch == 3


def test_batch_size_full_is_gradient_descent() -> None:
    engine, emitted = engine_of("batch_size=full", "epochs=3", "optim=sgd")
    engine.train()
    assert len(emitted) == 3
    assert all(r[records.TRAIN_EPOCH_LOSS] == pytest.approx(r[records.TRAIN_LOSS], rel=1e-6) for r in emitted)


NORMS = ["model.norm=none", "model.norm=batch"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("optim", ["optim=clr", "optim=adam"])
def test_a_run_with_probes_on_is_bit_identical_to_one_with_probes_off(norm: str, optim: str) -> None:
    common = ["max_steps=9", "log_every=1", optim, norm]
    looking, seen = engine_of("probe=[corridor,noise]", "probe.every=2", *common)
    plain, unseen = engine_of("probe=none", *common)
    looking.train(), plain.train()
    assert same(weights(looking), weights(plain))
    for name in (records.HG_NORM, records.BATCH_SHARPNESS):
        assert sum(name in r for r in seen) == 5
    unprobed = [{k: v for k, v in r.items() if not k.startswith("probe/")} for r in without_time(seen)]
    assert unprobed == without_time(unseen)


def test_micro_batches_without_batch_norm_give_the_same_step_up_to_rounding() -> None:
    whole, cut = (
        engine_of("max_steps=3", "optim=sgd")[0],
        engine_of("max_steps=3", "optim=sgd", "engine.micro_batch=7")[0],
    )
    whole.train(), cut.train()
    for a, b in zip(weights(whole), weights(cut), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cut", [3, 4, 6, 8])
@pytest.mark.parametrize(
    "overrides",
    [
        ["optim=clr", "model.norm=batch", "dataset.augment=true"],
        ["optim=sgd", "optim.momentum=0.9", "optim/schedule=cosine", "optim.schedule.warmup=2"],
        ["optim=adam", "eval_every=2", "engine.micro_batch=30"],
        ["optim=clr", "probe=sharpness", "probe.sharpness.images=batch"],
    ],
    ids=["clr", "sgd", "adam", "sharpness"],
)
def test_row_1_a_run_cut_anywhere_and_resumed_has_the_bits_of_one_that_was_not(
    cut: int, overrides: list[str], tmp_path
) -> None:
    overrides = [*overrides, "epochs=3", "log_every=1", "probe.every=3"]
    assert_resumes_to_the_same_bits(overrides, cut, tmp_path)


def test_a_stop_during_evaluation_is_heeded_and_the_evaluation_made_up_for() -> None:
    first, emitted = engine_of("epochs=2", "engine.micro_batch=64")
    whole, expected = engine_of("epochs=2", "engine.micro_batch=64")
    whole.train()
    asked = iter([False] * 4 + [True])  # four steps, then the first of five test batches
    first.should_stop = lambda: next(asked)
    saved: list[dict[str, Any]] = []
    first.save = lambda state: saved.append(copy.deepcopy(state))
    assert first.train() == "preempted"
    second, more = engine_of("epochs=2", "engine.micro_batch=64")
    second.load_state_dict(saved[-1])
    second.train()
    assert without_time(emitted + more) == without_time(expected)


def poison(engine: Engine, step: int, value: float) -> None:
    """Let the input of one batch hold a number that no forward pass survives."""
    batches = engine.dataset.train_batches

    def poisoned(epoch: int, batch_size: int, start: int = 0) -> Any:
        for number, batch in enumerate(batches(epoch, batch_size, start)):
            if epoch * engine.steps_per_epoch + start + number == step:
                batch.x[0, 0, 0, 0] = value
            yield batch

    engine.dataset.train_batches = poisoned  # type: ignore[method-assign]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("optim", ["clr", "sgd", "adam"])
def test_row_7_a_non_finite_batch_never_reaches_theta_and_ends_the_run_at_the_next_record(
    optim: str, value: float
) -> None:
    often = ["log_every=4", "checkpoint.every=1", "checkpoint.best=train/epoch_loss"]
    engine, emitted = engine_of(f"optim={optim}", *often, "dataset.train_size=1000", "probe=none")
    saved: list[int] = []
    engine.save = lambda state, kind="step": saved.append(state["progress"]["step"])
    poison(engine, 5, value)
    assert engine.train() == "diverged"
    assert [r["step"] for r in emitted] == [0, 4, 8]
    assert all(w.isfinite().all() for w in weights(engine))
    assert saved == [1, 2, 3, 4, 5], "nothing may be saved after the last sound state"


def test_row_7_a_zero_gradient_away_from_the_minimum_ends_the_run_as_diverged() -> None:
    engine, _ = engine_of("optim=clr")
    backward = engine.objective.backward

    def flat(*args: Any, **options: Any) -> Any:
        evaluation = backward(*args, **options)
        for p in engine.objective.theta:
            p.grad.zero_()
        return evaluation

    engine.objective.backward = flat  # type: ignore[method-assign]
    before = weights(engine)
    assert engine.train() == "diverged"
    assert same(before, weights(engine))


def test_row_7_a_gradient_that_rounds_to_zero_at_a_tiny_loss_is_no_divergence(corridor_train, capsys) -> None:
    argv = ["dataset=breast_cancer", "model=logistic", "optim=clr", "batch_size=10", "epochs=30", "log_every=1"]
    assert corridor_train(*argv, "probe=none", "logger=jsonl", "out_dir=run") == 0
    seen = list(records.read_records(Path("run")))
    assert any(0 < r[records.TRAIN_LOSS] < 1e-20 and r[records.TRAIN_GRAD_NORM] == 0 for r in seen)


def test_row_7_a_loss_of_exactly_zero_is_convergence() -> None:
    engine, emitted = engine_of("optim=clr", "epochs=50")
    with torch.no_grad():
        for p in engine.objective.theta:
            p.zero_()
    engine.dataset.y.zero_()
    engine.objective.model[-1].bias.data[0] = 1e4  # every image is surely a zero, and every label is
    assert engine.train() == "completed"
    assert emitted[-1][records.TRAIN_EPOCH_LOSS] == 0
    assert engine.progress.epoch == 1


def test_target_loss_ends_the_run_after_the_epoch_that_reaches_it() -> None:
    engine, emitted = engine_of("optim=sgd", "optim.lr=0.1", "epochs=200", "target_loss=0.5", "dataset.test_size=20")
    assert engine.train() == "completed"
    losses = [r[records.TRAIN_EPOCH_LOSS] for r in emitted if records.TRAIN_EPOCH_LOSS in r]
    assert losses[-1] <= 0.5 < min(losses[:-1])
    assert records.TEST_ACCURACY in emitted[-1]


def test_saves_come_by_steps_or_by_minutes() -> None:
    for every, expected in (("5", [5, 10, 12]), ("1000min", [12]), ("0.00000001min", [*range(1, 13), 12])):
        engine, _ = engine_of("epochs=3", f"checkpoint.every={every}")
        saved: list[int] = []
        engine.save = lambda state, saved=saved: saved.append(state["progress"]["step"])
        assert engine.train() == "completed"
        assert saved == expected


def test_eval_every_counts_epochs_and_the_last_is_always_evaluated() -> None:
    engine, emitted = engine_of("epochs=5", "eval_every=2", "optim=sgd")
    engine.train()
    assert [r["epoch"] for r in emitted if records.TEST_LOSS in r] == [1, 3, 4]


@pytest.mark.parametrize("batch_size", [8, 128])
def test_a_resumed_run_with_another_batch_size_trains_the_epochs_that_are_left(batch_size: int) -> None:
    first, _ = engine_of("epochs=3")
    saved: list[dict[str, Any]] = []
    first.save = lambda state: saved.append(copy.deepcopy(state))
    first.should_stop = lambda: first.progress.step == 6  # 128 of 200 images into the second epoch
    first.train()
    second, emitted = engine_of("epochs=3", f"batch_size={batch_size}", "log_every=1")
    second.load_state_dict(saved[-1])
    assert second.train() == "completed"
    per_epoch = -(-200 // batch_size)
    assert second.progress.step == 6 + (per_epoch - 128 // batch_size) + per_epoch == second.total_steps
    assert [r["epoch"] for r in emitted if records.TRAIN_EPOCH_LOSS in r] == [1, 2]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_memory_is_flat_over_10_000_steps() -> None:
    import gc
    import os
    from pathlib import Path

    engine, emitted = engine_of(
        "optim=sgd",
        "optim.lr=0.001",
        "epochs=10000",
        "log_every=10",
        "probe.every=100",
        "eval_every=100",
        "max_steps=12000",
    )
    page, at = os.sysconf("SC_PAGE_SIZE"), {}

    def measured() -> bool:
        step = engine.progress.step
        emitted.clear()
        if step in (2000, 12000 - 1):
            gc.collect()
            at[step] = int(Path("/proc/self/statm").read_text().split()[1]) * page
        return False

    engine.should_stop = measured
    assert engine.train() == "completed"
    early, late = at.values()
    assert late - early < 4e6


@pytest.mark.parametrize(
    ("overrides", "per_step"),
    [
        (["optim=sgd"], 1),
        (["optim=dal"], 4),
        (["optim=dal", "optim.curvature=secant"], 3),
    ],
)
def test_the_cost_of_a_step_counts_all_that_the_optimizer_evaluates_and_no_probe(
    overrides: list[str], per_step: int
) -> None:
    engine, emitted = engine_of(*overrides, "epochs=2", "log_every=1", "probe=[corridor,sharpness]", "probe.every=1")
    engine.train()
    assert [r[records.TRAIN_EVALUATIONS] for r in emitted] == [per_step * (k + 1) for k in range(8)]


def test_each_halving_of_a_line_search_costs_a_forward_pass() -> None:
    """`clr_trust` tries every step once, and once more for each halving, which its distance from CLR's step tells."""
    common = ["epochs=10", "log_every=1", "probe=none", "batch_size=100", "model.width=8"]
    engine, emitted = engine_of("optim=clr_trust", *common)
    engine.train()
    free = [r[records.TRAIN_LOSS] / r[records.TRAIN_GRAD_NORM] ** 2 for r in emitted]
    halvings = [round(math.log2(h / r[records.TRAIN_LR])) for h, r in zip(free, emitted, strict=True)]
    assert sum(halvings) > 0
    spent = [sum(halvings[: k + 1]) / 3 + (k + 1) * 4 / 3 for k in range(len(emitted))]
    assert [r[records.TRAIN_EVALUATIONS] for r in emitted] == pytest.approx(spent, rel=1e-12)


def test_a_loss_that_may_be_negative_does_not_end_the_run() -> None:
    engine, emitted = engine_of("epochs=3", "probe=none", "optim=sgd", "optim.lr=0.01")
    mean_loss = engine.objective.loss_fn
    engine.objective.loss_fn = lambda outputs, y: mean_loss(outputs, y) - 5
    assert engine.train() == "completed"
    assert engine.progress.step == engine.total_steps == 3 * engine.steps_per_epoch
    assert emitted[-1][records.TRAIN_EPOCH_LOSS] < 0


def test_a_cosine_ends_where_the_run_ends() -> None:
    """Also where that is `max_steps`: the rate of the last step is that of half a period less a step."""
    engine, emitted = engine_of(
        *("optim=sgd", "optim.lr=1", "optim/schedule=cosine", "epochs=30", "max_steps=10", "log_every=1", "probe=none")
    )
    engine.train()
    expected = [0.5 * (1 + math.cos(math.pi * k / 10)) for k in range(10)]
    assert [r[records.TRAIN_LR] for r in emitted] == pytest.approx(expected)
