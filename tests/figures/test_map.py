"""The map, from runs made by hand: outcomes, predictors, rules from digits, intervals, verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from corridor_exp.cli.figures import main
from corridor_exp.figures.cases import ABOVE, BELOW, CAPPED, CLR, TIE, TRUST, cases, end, predictors
from corridor_exp.figures.map import Map
from corridor_exp.figures.prediction import Rule, estimate, resampled
from corridor_exp.runs import records, thinned
from corridor_exp.runs.reading import Run

STEPS = 40  # two early ones, and four late ones
RATES = (0.03, 0.1, 0.3, 1.0, 3.0)


def run(
    loss: float,
    optim: str = "clr",
    *,
    data: str = "digits",
    number: int = 0,
    seed: int = 0,
    bound: float = 0.0,
    **more: Any,
) -> Run:
    """A run whose late losses have the mean `loss`, whose early ones are 2, and whose looks have the given bound."""
    lines: list[dict[str, Any]] = [{"step": n, records.TRAIN_LOSS: 2.0 if n < 36 else loss} for n in range(STEPS)]
    for line in lines[::2] if optim == "clr" else []:
        line |= {records.SECANT_CORRIDOR_INDEX: 2 * bound, records.GROWTH_RATIO: None, records.DECREASE_RATIO: 0.25}
        line |= {records.CLR_STEP: 0.5, records.SHARPNESS: 6.0, records.HG_NORM: 7.0, records.CORRIDOR_INDEX: 8.0}
        bound *= 100  # looks after the first 5 % must not be read
    status = more.pop("status", "completed")
    lr = more.pop("lr", None)
    config = {"seed": seed, "max_steps": STEPS, "batch_size": 15, "dataset.name": data, "model.width": 16}
    config |= {"dataset.label_noise": number, "optim.name": optim, "optim.lr": lr, "optim.step_cap": None, **more}
    return Run(Path("sweep") / "0", config, {"status": status, "train_images": 1500}, lines)


def setting(loss: float, best: float = 0.1, *, rate: float = 0.3, **more: Any) -> list[Run]:
    """CLR with two seeds, the capped one, the trusted one, and five rates, of which `rate` is best."""
    sgd = [run(best * (1 + abs(math.log(lr / rate))), "sgd", lr=lr, **{**more, "bound": 0.0}) for lr in RATES]
    clr = [run(loss, seed=seed, **more) for seed in (0, 1)]
    return [*clr, run(0.1, "clr", **{**more, "optim.step_cap": 1.0}), run(0.01, "clr_trust", **more), *sgd]


def outcomes(runs: Sequence[Run]) -> list[str]:
    return [case.outcome for case in cases(runs)[0] if case.method == CLR]


@pytest.mark.parametrize(
    ("loss", "outcome"), [(0.079, BELOW), (0.081, TIE), (0.124, TIE), (0.126, ABOVE), (math.inf, ABOVE), (0.0, BELOW)]
)
def test_the_margin(loss: float, outcome: str) -> None:
    assert outcomes(setting(loss)) == [outcome] * 2


def test_each_method_is_compared_with_the_best_rate() -> None:
    found, left_out = cases(setting(0.5))
    assert not left_out
    assert {(case.method, case.outcome) for case in found} == {(CLR, ABOVE), (CAPPED, TIE), (TRUST, BELOW)}
    assert {case.best_loss for case in found} == {0.1}
    assert found[0].ratio == pytest.approx(5)


def test_the_end_is_the_mean_of_the_last_tenth_and_a_divergence_is_infinite() -> None:
    assert end(run(0.5)) == 0.5
    assert end(run(1e-9)) == 1e-4
    assert end(run(0.5, status="diverged")) == math.inf
    early = run(0.5)
    assert end(replace(early, records=early.records[:20])) == 1e-4  # it came to a loss of 0 and ended


@pytest.mark.parametrize("rate", [0.03, 3.0])
def test_a_setting_whose_best_rate_is_at_the_edge_is_left_out(rate: float) -> None:
    found, left_out = cases(setting(0.5, rate=rate))
    assert not found
    assert left_out == {"digits: best rate at the edge": 1}


def test_a_setting_that_is_not_complete_is_left_out() -> None:
    whole = setting(0.5)
    for missing in range(len(whole)):  # a thinned file has no line for a run that has not ended
        assert cases(whole[:missing] + whole[missing + 1 :]) == ([], {"digits: not complete": 1})
    failed = [*setting(0.5, number=1), run(0.5, "clr_trust", number=1, status="failed")]
    assert cases([*failed, *setting(0.5)])[1] == {"digits: not complete": 1}


def test_the_predictors_are_medians_of_the_first_twentieth() -> None:
    found = predictors(run(0.5, bound=0.3))
    assert found["contraction bound"] == pytest.approx(0.3)
    assert found["noise"] == math.inf
    assert (found["contraction"], found["hλ/2"], found["‖Hg‖"], found["tangent index"]) == (0.75, 1.5, 7.0, 8.0)
    assert (found["early loss"], found["batch size"], found["width"]) == (2.0, 15.0, 16.0)
    full = predictors(run(0.5, batch_size="full"))
    assert (full["noise"], full["batch size"]) == (1.0, 1500.0)


# ------------------------------------------------------------------ prediction

CASES = st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(1, 4)), min_size=4, max_size=30).filter(
    lambda rows: len({yes for _, yes, _ in rows}) == 2
)


@settings(deadline=None, max_examples=60)
@given(CASES)
def test_auc_and_balanced_accuracy_are_those_of_scikit_learn(rows: list[tuple[int, bool, int]]) -> None:
    x, yes, weight = (np.array(column) for column in zip(*rows, strict=True))
    rule = Rule.fit(x, yes)
    weights = weight[None, :].astype(float)
    assert rule.auc(x, yes, weights)[0] == pytest.approx(roc_auc_score(yes, rule.sign * x, sample_weight=weight))
    said = rule.sign * x >= rule.sign * rule.threshold
    expected = balanced_accuracy_score(yes, said, sample_weight=weight)
    assert rule.accuracy(x, yes, weights)[0] == pytest.approx(expected)
    assert rule.auc(x, yes, np.ones((1, len(x))))[0] >= 0.5  # the sign is chosen so
    others = [balanced_accuracy_score(yes, rule.sign * x >= rule.sign * t) for t in np.arange(-0.5, 7)]
    assert rule.accuracy(x, yes, np.ones((1, len(x))))[0] >= max(others) - 1e-9


def test_the_threshold_is_the_middle_one_of_the_best_and_infinity_is_a_value() -> None:
    assert Rule.fit([1, 2, 8, 9], [True, True, False, False]) == Rule(-1, 5.0)
    assert Rule.fit([1, 2, 8, math.inf], [False, False, True, True]) == Rule(1, 5.0)


def test_a_bootstrap_sample_takes_whole_settings_and_has_both_classes() -> None:
    clusters, yes = ["a", "a", "b", "b", "c", "d"], [True, False, True, True, False, True]
    weights = resampled(clusters, yes, samples=500)
    assert weights.shape == (501, 6)
    np.testing.assert_array_equal(weights[0], 1)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    np.testing.assert_array_equal(weights[:, 2], weights[:, 3])
    assert (weights[:, [0, 2, 3, 5]].sum(1) > 0).all()
    assert (weights[:, [1, 4]].sum(1) > 0).all()
    np.testing.assert_array_equal(weights, resampled(clusters, yes, samples=500))


def test_an_interval_of_clusters_is_wider_than_of_cases() -> None:
    """Thirty settings whose four cases are alike tell no more than thirty cases."""
    generator = np.random.default_rng(1)
    value, yes = generator.normal(size=30).repeat(4), (generator.random(30) < 0.5).repeat(4)
    widths = []
    for clusters in (np.arange(30).repeat(4), np.arange(120)):
        seen = estimate(Rule(1, 0).auc(value, yes, resampled([str(c) for c in clusters], list(yes))))
        widths.append(seen.high - seen.low)
    assert widths[0] > 1.6 * widths[1]


# ------------------------------------------------------------------ verdicts


def made_up(bounds: Sequence[float], losses: Sequence[float], data: str) -> list[Run]:
    return [
        member
        for n, (bound, loss) in enumerate(zip(bounds, losses, strict=True))
        for member in setting(loss, data=data, number=n, bound=bound)
    ]


GOOD, BAD = 0.01, 1.0


def the_map(tested: Sequence[float], losses: Sequence[float]) -> Map:
    digits = made_up([0.2, 0.3, 0.4, 0.6, 0.8, 0.9], [GOOD, GOOD, GOOD, BAD, BAD, BAD], "digits")
    return Map.of([*digits, *made_up(tested, losses, "cifar10")])


def test_a_predictor_that_tells_the_classes_apart_predicts_beyond_the_plain_ones() -> None:
    found = the_map(np.linspace(0.1, 0.9, 30), [GOOD] * 15 + [BAD] * 15)
    row = found.rows[0]
    assert (row.predictor, row.rule) == ("contraction bound", Rule(-1, 0.5))
    assert row.auc == row.accuracy == (1.0, 1.0, 1.0)
    assert found.verdict.startswith("predicts; beyond the plain")
    assert "cifar10, CLR            30     0     30" in found.table()


def test_the_sign_is_that_of_digits_also_where_cifar_has_the_other() -> None:
    found = the_map(np.linspace(0.1, 0.9, 30), [BAD] * 15 + [GOOD] * 15)
    assert found.rows[0].auc == (0.0, 0.0, 0.0)
    assert found.verdict.startswith("no useful prediction")


def test_too_few_cases_decide_nothing() -> None:
    found = the_map(np.linspace(0.1, 0.9, 30), [GOOD] * 9 + [BAD] * 21)
    assert found.verdict == "undecided: 18 cases below and 42 above, and 20 of each are needed"
    assert the_map([], []).verdict.startswith("undecided: 0 cases below")
    assert Map.of([]).verdict.startswith("undecided: the cases of digits")


def test_a_weak_predictor_is_undecided() -> None:
    bounds = [*np.linspace(0.1, 0.9, 15), *np.linspace(0.25, 0.95, 15)]
    found = the_map(bounds, [GOOD] * 15 + [BAD] * 15)
    assert found.verdict == "undecided: an interval reaches down to ½"


def test_thinned_files_stay_small_and_lose_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = made_up([0.2, 0.9, 0.5], [GOOD, BAD, GOOD], "digits")
    (whole,) = thinned.write(runs, tmp_path / "whole", thinned.of_the_map)
    monkeypatch.setattr(thinned, "LARGEST", whole.stat().st_size // 3)
    files = thinned.write(runs, tmp_path / "cut", thinned.of_the_map)
    assert len(files) > 2
    assert all(file.stat().st_size <= thinned.LARGEST for file in files)
    assert "".join(file.read_text() for file in files) == whole.read_text()
    other = tmp_path / "cutlery-9.jsonl"
    other.touch()
    assert thinned.write(runs[:1], tmp_path / "cut", thinned.of_the_map) == files[:1]
    assert sorted(tmp_path.glob("cut*")) == [files[0], other]


def test_the_map_is_drawn_from_thinned_records_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [*made_up([0.2, 0.9], [GOOD, BAD], "digits"), *made_up([0.2, 0.8], [GOOD, math.inf], "cifar10")]
    (file,) = thinned.write(runs, tmp_path / "map" / "all", thinned.of_the_map)
    again = list(thinned.read(file))
    assert len(again[0].records) == 2 + 4
    assert Map.of(again).table() == Map.of(runs).table()
    main(["map", "--runs", str(tmp_path / "map"), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert Map.of(runs).table() in printed
    for ending in ("png", "pdf", "csv", "txt"):
        assert (tmp_path / "out" / f"map.{ending}").stat().st_size
    assert len((tmp_path / "out" / "map.csv").read_text().splitlines()) == 1 + 8


def test_a_damaged_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.jsonl").write_text('{"run": 1}\n')
    with pytest.raises(SystemExit) as exit_:
        main(["map", "--runs", str(tmp_path)])
    assert exit_.value.code == 2
    assert "bad.jsonl, line 1 is no run" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["map", "--runs", str(tmp_path / "nowhere")])
    assert "no runs in" in capsys.readouterr().err
