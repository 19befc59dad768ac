"""Every claim on runs made by hand, whose answer is known: each verdict, and each reason to withhold one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from corridor_exp.figures.claims import CLAIMS
from corridor_exp.figures.run_statistics import final_accuracy, steps_to
from corridor_exp.figures.verdicts import Verdict, interval, judge
from corridor_exp.runs import layout
from corridor_exp.runs.groups import Runs
from corridor_exp.runs.reading import read
from tests.figures.synthetic import SEEDS, as_figure, write_run


def verdict(statement: str, runs: Runs | None) -> Verdict:
    (claim,) = [claim for claim in CLAIMS if claim.statement == statement]
    return judge(claim, runs)


def reaching(epoch: int, of: int = 40) -> list[float]:
    """Losses whose first at or below 0.01 is that of `epoch`, from 1."""
    return [1.0] * (epoch - 1) + [0.01] * (of - epoch + 1)


SOONER = "CLR reaches zero loss sooner than any fixed rate"


def fig2(folder: Path, clr: Sequence[int], sgd: dict[float, int], figure: str = "fig2", scale: str = "mini") -> Runs:
    for seed, epoch in zip(SEEDS, clr, strict=False):
        write_run(folder / f"clr{seed}", reaching(epoch), seed=seed)
        for rate, reached in sgd.items():
            write_run(folder / f"sgd{rate}-{seed}", reaching(reached), optim="sgd", lr=rate, seed=seed)
    return as_figure(folder, figure, scale)


@pytest.mark.parametrize(
    ("clr", "sgd", "said"),
    [
        ((10, 10, 10), {0.1: 30, 0.5: 12, 2.0: 20}, "reproduced"),
        ((12, 12, 12), {0.1: 30, 0.5: 10, 2.0: 20}, "not reproduced"),
        ((10, 10, 10), {0.1: 30, 0.5: 11, 2.0: 20}, "undecided"),  # log₂ 1.1 = 0.1375: within the margin
        ((10, 10, 14), {0.1: 30, 0.5: 12, 2.0: 20}, "undecided"),  # a seed the other way
        ((10, 10, 10), {0.1: 30, 0.5: 25, 2.0: 20}, "undecided"),  # the best rate is the largest
        ((10, 10, 41), {0.1: 30, 0.5: 12, 2.0: 20}, "undecided"),  # a seed of CLR does not get there
        ((41, 41, 41), {0.1: 30, 0.5: 12, 2.0: 20}, "not reproduced"),  # none does: the budget is a bound
        ((10, 10, 10), {0.1: 41, 0.5: 41, 2.0: 41}, "undecided"),  # no rate does, so the best is unknown
        ((41, 41, 41), {0.1: 41, 0.5: 41, 2.0: 41}, "undecided"),  # nobody does
        ((10, 10), {0.1: 30, 0.5: 12, 2.0: 20}, "undecided"),  # two seeds
    ],
)
def test_sooner(clr: tuple[int, ...], sgd: dict[float, int], said: str, tmp_path: Path) -> None:
    assert verdict(SOONER, fig2(tmp_path, clr, sgd)).verdict == said


def test_a_rate_with_one_seed_only_chooses(tmp_path: Path) -> None:
    fig2(tmp_path, (10, 10, 10), {0.1: 30, 0.5: 12, 2.0: 20})
    write_run(tmp_path / "stage-one", reaching(5), optim="sgd", lr=1.0, seed=30)
    row = verdict(SOONER, as_figure(tmp_path, "fig2"))
    assert row.verdict == "reproduced"
    assert "best rate 0.5" in row.remark


def test_the_time_is_read_between_the_ends_of_epochs(tmp_path: Path) -> None:
    """From 0.1 after step 2 to 0.001 after step 3, ln τ lies half-way; a loss of exactly 0 is no error."""
    write_run(tmp_path / "run", [1.0, 0.1, 0.001])
    assert steps_to(0.01, read(tmp_path / "run")) == pytest.approx(2.5)
    assert steps_to(2.0, read(tmp_path / "run")) == 1
    write_run(tmp_path / "zero", [1.0, 0.0])
    assert 1 < steps_to(0.01, read(tmp_path / "zero")) < 1.01
    assert steps_to(1e-9, read(tmp_path / "run")) == math.inf


def test_sooner_is_the_logarithm_of_the_ratio_for_the_same_seed(tmp_path: Path) -> None:
    row = verdict(SOONER, fig2(tmp_path, (5, 10, 20), {0.1: 39, 0.5: 20, 2.0: 39}))
    assert row.values == {30: 2.0, 31: 1.0, 32: 0.0}
    assert row.verdict == "undecided"
    assert "best rate 0.5" in row.remark


def test_a_divergence_is_a_result_and_a_failure_is_none(tmp_path: Path) -> None:
    runs = fig2(tmp_path / "a", (10, 10, 10), {0.1: 30, 0.5: 12})
    for seed in SEEDS:
        write_run(tmp_path / "a" / f"worst{seed}", [3.0], optim="sgd", lr=2.0, seed=seed, status="diverged")
    assert verdict(SOONER, as_figure(tmp_path / "a", "fig2")).verdict == "reproduced"
    assert runs.scale == "mini"
    write_run(tmp_path / "a" / "failed", [3.0], optim="sgd", lr=2.0, seed=31, status="failed")
    row = verdict(SOONER, as_figure(tmp_path / "a", "fig2"))
    assert row.verdict == "undecided"
    assert "1 of 13 runs" in row.remark


def test_imagenet_has_another_loss_to_reach_in_the_miniature(tmp_path: Path) -> None:
    for scale, said in {"mini": "reproduced", "full": "undecided"}.items():
        for seed in SEEDS:
            write_run(tmp_path / scale / f"clr{seed}", [1.0, 0.5, 0.09, 0.08], seed=seed)
            for rate in (0.1, 0.5, 2.0):
                losses = [1.0, 0.5, 0.4, 0.09 if rate == 0.5 else 0.3]
                write_run(tmp_path / scale / f"sgd{rate}-{seed}", losses, optim="sgd", lr=rate, seed=seed)
        row = verdict("CLR is sooner than fixed rates on ImageNet", as_figure(tmp_path / scale, "fig8", scale))
        assert row.verdict == said, row.remark


def test_what_is_said_of_clr_alone_waits_for_no_other_run(tmp_path: Path) -> None:
    for seed in SEEDS:
        write_run(tmp_path / f"clr{seed}", [1.0, 0.5, 0.005], seed=seed)
    write_run(tmp_path / "sgd", [1.0], optim="sgd", lr=0.1, status=None)
    runs = as_figure(tmp_path, "fig2")
    assert verdict("CLR is stable", runs).verdict == "reproduced"
    assert verdict(SOONER, runs).remark == "1 of 4 runs are not finished"


def test_a_smoke_test_decides_nothing(tmp_path: Path) -> None:
    for seed in SEEDS:
        write_run(tmp_path / str(seed), [1.0, 0.005], seed=seed)
        summary = tmp_path / str(seed) / layout.SUMMARY_FILE
        summary.write_text(json.dumps({**json.loads(summary.read_text()), "train_images": 200}))
    row = verdict("ResNet-50 converges", as_figure(tmp_path, "fig5"))
    assert (row.verdict, row.remark) == ("undecided", "200 training images decide nothing")


def test_vgg_is_judged_with_and_without_batch_norm_apart(tmp_path: Path) -> None:
    for seed in SEEDS:
        write_run(tmp_path / f"plain{seed}", [1.0, 0.005], seed=seed, model={"norm": "none"})
        write_run(tmp_path / f"norm{seed}", [1.0, 0.9, 0.8, 2.5, 2.6] * 4, seed=seed, model={"norm": "batch"})
    runs = as_figure(tmp_path, "fig6")
    assert verdict("VGG converges", runs).verdict == "reproduced"
    assert verdict("CLR is stable on VGG", runs).verdict == "reproduced"
    assert verdict("VGG with batch norm converges", runs).verdict == "not reproduced"
    assert verdict("CLR is stable on VGG with batch norm", runs).verdict == "not reproduced"


BETTER = "a larger rate tests better"


def accuracies(folder: Path, clr: float, sgd: dict[float, float], held_out: dict[float, float], scale: str) -> Runs:
    for seed in SEEDS:
        write_run(folder / f"clr{seed}", [1.0] * 20, h=[0.3] * 20, accuracy=clr, seed=seed)
        for rate, value in sgd.items():
            write_run(folder / f"sgd{rate}-{seed}", [1.0] * 20, accuracy=value, optim="sgd", lr=rate, seed=seed)
    for rate, value in held_out.items():
        data = {"held_out": 5000}
        write_run(folder / f"choose{rate}", [1.0] * 20, accuracy=value, optim="sgd", lr=rate, seed=3, dataset=data)
    return as_figure(folder, "fig2", scale)


CHOICE = {0.1: 0.9, 0.5: 0.45, 1.0: 0.3, 2.0: 0.2}  # 0.1 is below CLR's median h, 0.3: no larger rate


@pytest.mark.parametrize(
    ("chosen", "choice", "scale", "said"),
    [
        (0.43, CHOICE, "mini", "reproduced"),
        (0.41, CHOICE, "mini", "undecided"),
        (0.41, CHOICE, "full", "reproduced"),
        (0.37, CHOICE, "mini", "not reproduced"),
        (0.43, {0.1: 0.9, 0.5: 0.3, 2.0: 0.5}, "mini", "undecided"),  # the best is at the edge
        (0.43, {0.1: 0.9, 0.2: 0.3}, "mini", "undecided"),  # none is larger than h
    ],
)
def test_a_larger_rate(chosen: float, choice: dict[float, float], scale: str, said: str, tmp_path: Path) -> None:
    """The rate is chosen on held-out images: that 1.0 tests far better must not count."""
    runs = accuracies(tmp_path, 0.4, {0.1: 0.1, 0.2: 0.1, 0.5: chosen, 1.0: 0.99, 2.0: 0.1}, choice, scale)
    row = verdict(BETTER, runs)
    assert row.verdict == said
    if row.values:
        assert row.values == pytest.approx(dict.fromkeys(SEEDS, 100 * (chosen - 0.4)))


@pytest.mark.parametrize(("epochs", "averaged"), [(1, 1), (10, 1), (50, 5)])
def test_accuracy_is_the_mean_over_the_last_tenth_of_the_epochs(epochs: int, averaged: int, tmp_path: Path) -> None:
    write_run(tmp_path / "run", [1.0] * epochs, accuracy=0.0)
    run = read(tmp_path / "run")
    for number, record in enumerate(run.records, 1):
        record["test/accuracy"] = number / 100
    assert final_accuracy(run) == pytest.approx(epochs - (averaged - 1) / 2)


PEAK = "h warms up, then decays (CIFAR-10)"
HILL = [1.0] * 10 + [2.0] * 80 + [1.0] * 10


@pytest.mark.parametrize(
    ("h", "losses", "cap", "said"),
    [
        (HILL, [1.0] * 100 + [0.01], None, "reproduced"),
        ([1.0] * 50 + [2.0] * 50, [1.0] * 100 + [0.01], None, "not reproduced"),  # rises only
        ([1.4 if value == 2 else 1.0 for value in HILL], [1.0] * 100 + [0.01], None, "not reproduced"),
        ([*HILL, *[9.0] * 50], [1.0] * 100 + [0.01] * 50, None, "reproduced"),  # what comes after E < 0.05 is not seen
        (HILL, [1.0] * 101, None, "undecided"),  # E < 0.05 was not reached
        (HILL, [1.0] * 100 + [0.01], 2.0, "undecided"),  # the cap binds
    ],
)
def test_warm_up_and_decay(h: list[float], losses: list[float], cap: float | None, said: str, tmp_path: Path) -> None:
    for seed in SEEDS:
        write_run(tmp_path / str(seed), losses, h=[*h, 0.5], seed=seed, step_cap=cap)
    assert verdict(PEAK, as_figure(tmp_path, "fig4")).verdict == said


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([1.0, 0.5, 0.2, 0.09] + [0.09] * 10, "reproduced"),  # τ is 0.1 here
        ([1.0, 0.5, 0.2] + [0.3] * 11, "not reproduced"),  # it has turned round
        ([1.0 / n for n in range(1, 9)], "undecided"),  # still falling when the budget ends
    ],
)
def test_another_network_converges(losses: list[float], said: str, tmp_path: Path) -> None:
    for seed in SEEDS:
        write_run(tmp_path / str(seed), losses, seed=seed)
    assert verdict("ResNet-50 converges", as_figure(tmp_path, "fig5")).verdict == said


@pytest.mark.parametrize(
    ("sizes", "last", "said"),
    [((32, 512), 0.01, "reproduced"), ((32, 256), 0.01, "undecided"), ((32, 512), 0.5, "not reproduced")],
)
def test_across_batch_sizes(sizes: tuple[int, ...], last: float, said: str, tmp_path: Path) -> None:
    for seed in SEEDS:
        for size in sizes:
            loss = last if size == 32 else 0.01
            write_run(tmp_path / f"{size}-{seed}", [1.0, 0.4] + [loss] * 20, seed=seed, batch_size=size)
    row = verdict("CLR converges for all batches", as_figure(tmp_path, "fig9"))
    assert row.verdict == said
    if said == "not reproduced":
        assert "batch 32 seed 31" in row.remark
        assert row.values == dict.fromkeys(SEEDS, math.inf)


@pytest.mark.parametrize(
    ("losses", "worst"),
    [
        ([9.0, 1.0, 0.5, 0.8, 0.01, 0.09], 0.8),  # 0.8 / (2 · 0.5); below 0.1 a jump does not count
        ([9.0, 1.0, 0.3, 0.9], 1.5),
        ([9.0, 2.4, 2.4], 2.4 / math.log(10)),
    ],
)
def test_stable(losses: list[float], worst: float, tmp_path: Path) -> None:
    for seed in SEEDS:
        write_run(tmp_path / str(seed), losses, seed=seed)
    row = verdict("CLR is stable", as_figure(tmp_path, "fig2"))
    assert row.values == pytest.approx(dict.fromkeys(SEEDS, worst))
    assert row.verdict == ("reproduced" if worst <= 1 else "not reproduced")


@pytest.mark.parametrize(
    ("most", "said"),
    [((0.4, 0.4), "reproduced"), ((0.4, 0.6), "not reproduced"), ((0.6, 0.4), "not reproduced")],
)
def test_near_a_corridor_by_both_measures_in_most_of_the_run(
    most: tuple[float, float], said: str, tmp_path: Path
) -> None:
    """The best tenth, better than most of the run, is told and decides nothing."""
    for seed in SEEDS:
        write_run(tmp_path / str(seed), looks=[(0.9, 0.9)] * 30 + [most] * 60 + [(0.1, 0.2)] * 10, seed=seed)
    row = verdict("training comes near a corridor", as_figure(tmp_path, "fig7"))
    assert row.verdict == said
    assert row.values == dict.fromkeys(SEEDS, max(most))
    assert "in the best tenth 0.2/0.2/0.2" in row.remark


def test_secants_of_an_older_probe_judge_nothing(tmp_path: Path) -> None:
    for seed in SEEDS:
        write_run(tmp_path / str(seed), looks=[(0.1, 0.1)] * 100, seed=seed, probe_version=1)
    row = verdict("training comes near a corridor", as_figure(tmp_path, "fig7"))
    assert row.verdict == "undecided"
    assert "midpoint" in row.remark


def test_low_indices_in_different_tenths_are_no_corridor(tmp_path: Path) -> None:
    for seed in SEEDS:
        write_run(tmp_path / str(seed), looks=[(0.1, 0.9)] * 50 + [(0.9, 0.1)] * 50, seed=seed)
    assert verdict("training comes near a corridor", as_figure(tmp_path, "fig7")).verdict == "not reproduced"


def test_without_runs_every_claim_is_undecided() -> None:
    assert {judge(claim, None).verdict for claim in CLAIMS} == {"undecided"}


@given(st.lists(st.integers(-1000, 1000), min_size=3, max_size=3, unique=True))
def test_the_interval_is_students(values: list[float]) -> None:
    mean = sum(values) / 3
    assert interval(values) == pytest.approx(stats.t(2, mean, stats.sem(values)).interval(0.95), abs=1e-6)


def test_the_interval_of_what_is_not_finite() -> None:
    assert interval([1.0, math.inf, 2.0]) is None
    assert interval([1.0]) is None
