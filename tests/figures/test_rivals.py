from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from corridor_exp.cli.figures import main
from corridor_exp.figures import rivals, sensitivity
from corridor_exp.figures.run_statistics import gradients_to, steps_to
from corridor_exp.runs import reading
from corridor_exp.runs.groups import Runs
from tests.figures.synthetic import as_figure, write_run

TARGETS = {"easy": 0.1, "hard": 0.1}
DEFAULTS = {"sgd": {"name": "sgd", "lr": 0.1, "momentum": 0.0}, "ngn": {"name": "ngn", "sigma": 1.0}}


@pytest.fixture
def benchmark(tmp_path: Path) -> Runs:
    """SGD, whose target is reached from 0.1 to 1, and NGN, cheaper on `easy` and not there on `hard`."""
    ends = {0.001: 0.5, 0.01: 0.2, 0.1: 0.01, 1.0: 0.001, 10.0: None}
    for problem in TARGETS:
        for rate, loss in ends.items():
            for seed in (30, 31, 32) if rate == 0.1 else (30,):
                folder = tmp_path / f"{problem}-sgd-{rate}-{seed}"
                common = {"optim": "sgd", "lr": rate, "seed": seed, "name": problem, "gradients": 10.0}
                if loss is None:
                    write_run(folder, [1.0], status="diverged", **common)
                else:
                    write_run(folder, [1.0, loss], accuracy=1 - loss, **common)
        for seed in (30, 31, 32):
            losses = [0.05, 0.04] if problem == "easy" else [1.0, 0.3]
            folder = tmp_path / f"{problem}-ngn-{seed}"
            write_run(folder, losses, optim="ngn", sigma=1.0, seed=seed, name=problem, gradients=5.0)
    return as_figure(tmp_path, "rivals_small")


def test_the_cost_to_a_target_lies_on_a_line_between_epoch_ends(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [1.0, 0.01, 0.001], gradients=8.0)
    run = reading.read(tmp_path / "run")
    assert gradients_to(0.1, run) == pytest.approx(12)  # halfway in the logarithm from 8 to 16
    assert gradients_to(2.0, run) == 8
    assert gradients_to(1e-4, run) == math.inf


def test_a_run_that_diverged_later_has_not_reached_its_target(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [1.0, 0.01], gradients=8.0, status="diverged")
    run = reading.read(tmp_path / "run")
    assert gradients_to(0.1, run) == steps_to(0.1, run) == math.inf


def test_a_row_has_the_default_the_tuned_setting_and_the_cost_of_the_search(benchmark: Runs) -> None:
    rows = {
        (row.problem, row.method): row for row in (m.row() for m in rivals.methods_of(benchmark, TARGETS, DEFAULTS))
    }
    sgd = rows["easy", "SGD"]
    assert (sgd.setting, sgd.default, sgd.tuned) == ("lr", 0.1, 1.0)
    assert sgd.default_loss == 0.01
    assert sgd.default_gradients == pytest.approx(10 + 10 * math.log(10) / math.log(100))
    assert sgd.tuned_gradients == pytest.approx(10 + 10 * math.log(10) / math.log(1000))
    assert sgd.with_search == pytest.approx(sgd.tuned_gradients + 4 * 20 + 10)
    assert sgd.good_decades == pytest.approx(1)
    assert sgd.failures == "3/5"
    ngn = rows["hard", "ngn"]
    assert (ngn.default_gradients, ngn.failures, ngn.default_loss) == (math.inf, "1/1", 0.3)
    assert rows["easy", "ngn"].default_gradients == 5
    assert math.isnan(rows["easy", "ngn"].with_search)  # nothing was searched


def test_a_table_marks_seeds_that_miss_the_target_and_a_best_setting_at_an_end(tmp_path: Path) -> None:
    for seed, last in ((40, 0.001), (41, 0.5), (42, 0.001)):
        for lr in (0.1, 1.0):
            place = tmp_path / f"{lr}-{seed}"
            write_run(place, [1.0, last / lr], optim="sgd", lr=lr, seed=seed, name="easy", gradients=10.0)
    table = rivals.table(Runs.read(tmp_path), TARGETS, DEFAULTS)
    (row,) = [line for line in table.splitlines() if line.startswith("| SGD")]
    _, _, _, _, default, tuned, _, cost, *_ = row.split(" | ")
    assert default.endswith("(2/3)")
    assert tuned == "1*"
    assert cost.endswith("(2/3)")


def test_a_profile_counts_the_problems_within_a_factor_of_the_best() -> None:
    costs = {"a": {"x": 1.0, "y": 4.0}, "b": {"x": math.inf, "y": 7.0}, "c": {"x": math.inf, "y": math.inf}}
    assert rivals.profile(costs) == {"x": [1.0], "y": [1.0, 4.0]}


def test_the_figure_shows_what_the_points_say(benchmark: Runs) -> None:
    figure, points = sensitivity.draw(benchmark, TARGETS, DEFAULTS, "title")
    losses = [p for p in points if (p.problem, p.method, p.metric) == ("easy", "SGD", "train/epoch_loss")]
    assert [(p.setting, p.median, p.runs) for p in losses] == [
        (0.001, 0.5, 1),
        (0.01, 0.2, 1),
        (0.1, 0.01, 3),
        (1.0, 0.001, 1),
        (10.0, math.inf, 1),
    ]
    above, below = figure.subfigs
    easy = above.axes[0]
    assert [label.get_text() for label in easy.get_yticklabels()] == ["SGD", "ngn"]  # SGD solves more problems
    shades = easy.images[0].get_array()
    assert list(shades[0]) == pytest.approx([math.log10(x) for x in (5, 2, 0.1, 0.01, 1000)])  # at most three decades
    assert shades[1, 2] == pytest.approx(math.log10(0.4))
    marks = [(line.get_marker(), *line.get_xdata(), *line.get_ydata()) for line in easy.lines]
    assert marks == [("o", 2, 0), ("x", 4, 0), ("o", 2, 1)]
    default, tuned = below.axes
    steps = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in default.lines}
    assert steps["ngn"] == ([1, 1, 100], [0, 0.5, 0.5])
    assert steps["SGD"][1] == [0, 0.5, 1, 1]
    assert steps["SGD"][0] == pytest.approx([1, 1, 3, 100])
    assert default.get_title() == "at the default: easy, hard"
    assert not tuned.get_visible()  # one of the two was not tuned


def test_a_profile_compares_methods_on_the_problems_of_all(benchmark: Runs, tmp_path: Path) -> None:
    write_run(tmp_path / "more", [1.0, 0.5], optim="adam", lr=1.0, name="easy", gradients=5.0)
    rows = [m.row() for m in rivals.methods_of(as_figure(tmp_path, "rivals_small"), TARGETS, DEFAULTS)]
    compared = rivals.comparable(rows, "default_gradients")
    assert {(row.method, row.problem) for row in compared} == {(m, p) for m in ("SGD", "ngn") for p in TARGETS}
    assert rivals.comparable(rows, "tuned_gradients") == []
    sgd = [row for row in rows if row.method == "SGD"]
    assert rivals.comparable(sgd, "tuned_gradients") == sgd


def test_the_command_draws_a_benchmark_and_its_table(tmp_path: Path) -> None:
    for problem in ("digits", "logistic"):
        write_run(tmp_path / "runs" / problem, [1.0, 0.001], optim="ngn", sigma=1.0, name=problem, gradients=3.0)
    write_run(tmp_path / "runs" / "other", [1.0], optim="ngn", sigma=1.0, name="other", seed=99, gradients=3.0)
    as_figure(tmp_path / "runs", "rivals_small")
    main(["rivals_small", "--runs", "runs", "--out", "out"])
    assert "Seed 30; 2 runs" in (tmp_path / "out/rivals_small.txt").read_text()
    assert (tmp_path / "out/rivals_small.png").stat().st_size > 10_000
    rows = list(csv.DictReader((tmp_path / "out/rivals_small.csv").open()))
    assert {(row["problem"], row["median"]) for row in rows} == {("digits", "0.001"), ("logistic", "0.001")}
    table = (tmp_path / "out/rivals_small.md").read_text().splitlines()
    assert table[0].startswith("Values of logistic, digits.")
    assert table[4:] == ["| ngn |  | – | 0.001 0.001 | 4.22 5 | . . | . . | . . | . . | . . | 0/1 0/1 |"]


@pytest.mark.parametrize("status", ["failed", "preempted"])
def test_a_run_that_has_not_ended_is_left_out_and_said(tmp_path: Path, capsys, status: str) -> None:
    """It is no divergence."""
    common = {"optim": "ngn", "sigma": 1.0, "name": "digits", "gradients": 3.0}
    write_run(tmp_path / "runs/whole", [1.0, 0.001], seed=40, **common)
    write_run(tmp_path / "runs/cut", [1.0], seed=41, status=status, **common)
    as_figure(tmp_path / "runs", "rivals_small")
    main(["rivals_small", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    rows = list(csv.DictReader((tmp_path / "out/rivals_small.csv").open()))
    assert [(row["median"], row["high"], row["runs"]) for row in rows] == [("0.001", "0.001", "1")]
    assert "1 of 2 runs are not finished: they are left out" in capsys.readouterr().err
