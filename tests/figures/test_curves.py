from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.colors import to_rgb

from corridor_exp.figures import curves, stability, style, surfaces
from corridor_exp.runs import records
from corridor_exp.runs.groups import Runs, grouped
from corridor_exp.theory.surfaces import fig1a, fig1b
from tests.figures.synthetic import as_figure, write_run


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.fixture
def sweep(tmp_path: Path) -> Runs:
    """CLR and SGD at two rates, two seeds; one more run chooses a rate on held-out images."""
    for seed, loss in ((30, 1.0), (31, 3.0)):
        write_run(tmp_path / f"clr{seed}", [loss, loss / 4], accuracy=0.5, seed=seed)
        for rate in (0.1, 0.5):
            write_run(
                tmp_path / f"sgd{rate}-{seed}", [loss, loss * rate], accuracy=rate, optim="sgd", lr=rate, seed=seed
            )
    write_run(tmp_path / "z", [9.0], optim="sgd", lr=0.1, seed=3, dataset={"held_out": 5000})
    return as_figure(tmp_path, "fig2")


def test_few_seeds_have_a_line_each(sweep: Runs) -> None:
    figure, points = curves.draw(sweep, [records.TRAIN_EPOCH_LOSS, records.TEST_ACCURACY], "title")
    assert [(p.seed, p.epoch, p.median) for p in points if p.label == "CLR"] == [
        *[(30, 1, 1.0), (30, 2, 0.25), (31, 1, 3.0), (31, 2, 0.75)],
        *[(30, 1, 0.5), (30, 2, 0.5), (31, 1, 0.5), (31, 2, 0.5)],
    ]
    assert {p.label for p in points} == {"CLR", "SGD 0.1", "SGD 0.5"}
    assert all(p.median < 9 for p in points)  # the run on held-out images is not drawn
    loss, accuracy = figure.axes
    assert (loss.get_yscale(), accuracy.get_yscale()) == ("log", "linear")
    for axis, metric in ((loss, records.TRAIN_EPOCH_LOSS), (accuracy, records.TEST_ACCURACY)):
        assert len(axis.lines) == 6
        for label in ("CLR", "SGD 0.1", "SGD 0.5"):
            plotted = [y for line in axis.lines if line.get_label() == label for y in line.get_ydata()]
            assert plotted == [p.median for p in points if p.label == label and p.metric == metric]
    assert legend(figure) == ["CLR", "SGD 0.1", "SGD 0.5"]
    assert figure.get_suptitle() == "title\nseeds 30, 31; one line per seed"


def test_the_facts_name_the_data_and_the_legend_is_opaque(tmp_path: Path) -> None:
    for seed in (30, 31):
        write_run(tmp_path / str(seed), [1.0, 0.5], seed=seed)
        summary = tmp_path / str(seed) / "summary.json"
        summary.write_text(json.dumps({**json.loads(summary.read_text()), "train_images": 5000}))
    figure, _ = curves.draw(as_figure(tmp_path, "fig2"), [records.TRAIN_EPOCH_LOSS], "title")
    assert "5,000 training images of CIFAR-10; seeds 30, 31; one line" in figure.get_suptitle().replace("\n", " ")
    assert {line.get_alpha() for line in figure.axes[0].lines} == {0.8}
    assert {line.get_alpha() for line in figure.legends[0].get_lines()} == {1.0}


def test_many_seeds_are_their_median_and_their_range(tmp_path: Path) -> None:
    for seed, loss in enumerate((1.0, 2.0, 4.0, 9.0, 100.0)):
        write_run(tmp_path / str(seed), [loss], seed=seed)
    figure, points = curves.draw(as_figure(tmp_path, "fig2"), [records.TRAIN_EPOCH_LOSS], "title")
    assert [(p.seed, p.median, p.low, p.high, p.runs) for p in points] == [(None, 4.0, 1.0, 100.0, 5)]
    said = " ".join(figure.get_suptitle().split())
    assert said == "title seeds 0, 1, 2, 3, 4; line: median, band: lowest to highest"


def test_a_curve_that_vanishes_is_named(tmp_path: Path) -> None:
    """Under another one, or because it has no number that can be drawn."""
    write_run(tmp_path / "a", [1.0, 0.5], step_cap=None)
    write_run(tmp_path / "b", [1.0, 0.5], step_cap=10.0)
    write_run(tmp_path / "c", [math.inf, math.nan], seed=31)
    figure, _ = curves.draw(as_figure(tmp_path, "fig2"), [records.TRAIN_EPOCH_LOSS], "title")
    note = " ".join(figure.legends[0].get_title().get_text().split())
    assert note == "Runs to note: CLR seed 31: nothing to draw; CLR seed 30 lies under CLR, step cap 10 seed 30"


def test_many_rates_have_colours_in_order_and_clr_its_own(tmp_path: Path) -> None:
    for rate in (2.0, 0.1, 0.5, 0.02):
        write_run(tmp_path / f"sgd{rate}", [1.0, rate], optim="sgd", lr=rate)
    write_run(tmp_path / "clr", [1.0, 0.01])
    figure, _ = curves.draw(as_figure(tmp_path, "fig2"), [records.TRAIN_EPOCH_LOSS], "title")
    brightness = {line.get_label(): sum(to_rgb(line.get_color())) for line in figure.axes[0].lines}
    rates = [brightness[f"SGD {rate:g}"] for rate in (0.02, 0.1, 0.5, 2)]
    assert rates == sorted(rates)
    assert figure.axes[0].lines[0].get_color() == style.COLOURS[0]


def test_two_optimizers_at_many_rates_are_told_apart() -> None:
    looks = style.looks({f"{name} {rate}": rate for name in ("SGD", "adam") for rate in (0.1, 0.2, 0.5, 1.0)})
    assert len({(look["color"], look["linestyle"]) for look in looks.values()}) == 8
    assert looks["SGD 0.2"]["color"] == looks["adam 0.2"]["color"]


def test_what_did_not_end_well_is_named_on_the_figure(tmp_path: Path) -> None:
    write_run(tmp_path / "0", [1.0, 2.0], seed=0)
    write_run(tmp_path / "1", [1.0, 5.0], seed=1, status="diverged")
    write_run(tmp_path / "2", [1.0], seed=2, status="failed")
    write_run(tmp_path / "3", [1.0], seed=3, status=None)
    write_run(tmp_path / "4", seed=4, status=None)
    figure, points = curves.draw(as_figure(tmp_path, "fig2"), [records.TRAIN_EPOCH_LOSS], "title")
    note = " ".join(figure.legends[0].get_title().get_text().split())
    assert note == (
        "Runs to note: CLR seed 1: diverged in epoch 2; CLR seed 2: failed in epoch 1; "
        "CLR seed 3: unfinished in epoch 1; CLR seed 4: not started"
    )
    assert [p.runs for p in points] == [4, 2]
    assert points[0].seed is None


def test_metrics_share_a_panel_and_data_sets_do_not(tmp_path: Path) -> None:
    write_run(tmp_path / "a", looks=[(0.2, 0.4), (0.6, 0.8)])
    write_run(tmp_path / "b", looks=[(0.1, 0.3), (0.5, 0.7)], dataset={"name": "imagenet"})
    panel = f"{records.CORRIDOR_INDEX} {records.SECANT_CORRIDOR_INDEX}"
    figure, points = curves.draw(as_figure(tmp_path, "fig7"), [panel], "title")
    assert [axis.get_title() for axis in figure.axes] == ["CIFAR-10", "ImageNet"]
    assert legend(figure)[:2] == ["CLR, autodiff", "CLR, secant to CLR's midpoint"]
    assert [p.median for p in points] == [0.2, 0.6, 0.4, 0.8, 0.1, 0.5, 0.3, 0.7]
    assert [p.epoch for p in points[:2]] == [0.5, 1.0]


def test_where_several_labels_share_a_panel_each_keeps_its_colour(tmp_path: Path) -> None:
    for rate in (0.1, 0.5):
        write_run(tmp_path / str(rate), [1.0, 0.5], looks=[(3.0, 20.0)], optim="sgd", lr=rate)
    panel = f"{records.CORRIDOR_INDEX} {records.SECANT_CORRIDOR_INDEX}"
    figure, _ = curves.draw(as_figure(tmp_path, "flow"), [records.TRAIN_EPOCH_LOSS, panel], "title")
    loss, shared = ({line.get_label(): line for line in axis.lines} for axis in figure.axes)
    for label in ("SGD 0.1", "SGD 0.5"):
        second = shared[f"{label}, secant to CLR's midpoint"]
        assert loss[label].get_color() == shared[label].get_color() == second.get_color()
        assert loss[label].get_linestyle() == shared[label].get_linestyle() != second.get_linestyle()
    assert legend(figure)[:2] == ["SGD 0.1", "SGD 0.5"]


def test_labels_say_in_what_the_runs_differ(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1.0], batch_size=32, step_cap=None)
    write_run(tmp_path / "b", [1.0], batch_size=64, step_cap=10.0)
    write_run(tmp_path / "c", [1.0], batch_size=64, optim="sgd", lr=0.5)
    assert list(grouped(as_figure(tmp_path, "fig9").runs)) == [
        "CLR, batch 32",
        "CLR, batch 64, step cap 10",
        "SGD 0.5, batch 64",
    ]


def test_a_folder_without_a_manifest_is_a_sweep_too(tmp_path: Path) -> None:
    for n in (10, 2):
        write_run(tmp_path / "deep" / str(n), [1.0], seed=n)
    runs = Runs.read(tmp_path)
    assert [run.seed for run in runs.runs] == [2, 10]
    assert (runs.scale, runs.figure, runs.commit) == (None, None, "abc")
    assert runs.caption("How training ends") == f"How training ends. Seeds 2, 10; 2 runs, commit abc, from {tmp_path}."
    assert runs.among(seed=2).caption("One").startswith("One. Seed 2; 1 run, commit abc")
    two = replace(runs, commit=f"{'0123456789abcdef' * 2}, {'f' * 40}+changes").caption("Two")
    assert "commit 0123456789ab, ffffffffffff+changes, from" in two
    assert not Runs.read(tmp_path / "nowhere")


def test_stability_is_the_end_of_a_run_by_rate_and_clr_is_level(tmp_path: Path) -> None:
    for seed, loss in ((0, 1.0), (1, 3.0)):
        write_run(tmp_path / f"clr{seed}", [9.0, loss], accuracy=0.5, seed=seed)
        write_run(tmp_path / f"low{seed}", [9.0, 2 * loss], accuracy=0.4, optim="sgd", lr=0.1, seed=seed)
        write_run(tmp_path / f"high{seed}", [9.0, 4 * loss], accuracy=0.3, optim="sgd", lr=1.0, seed=seed)
    write_run(tmp_path / "diverged", [9.0, 1e9], optim="sgd", lr=10.0, status="diverged")
    figure, points = stability.draw(Runs.read(tmp_path), "title")
    losses = [(p.method, p.seed, p.rate, p.median) for p in points if p.metric == records.TRAIN_EPOCH_LOSS]
    assert losses == [
        *[("CLR", 0, None, 1), ("CLR", 1, None, 3)],
        *[("SGD", 0, 0.1, 2), ("SGD", 0, 1.0, 4), ("SGD", 1, 0.1, 6), ("SGD", 1, 1.0, 12)],
    ]
    low, high, *lines = figure.axes[0].lines
    assert (list(low.get_ydata()), list(high.get_ydata())) == ([1, 1], [3, 3])
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in lines] == [
        ([0.1, 1.0], [2, 4]),
        ([0.1, 1.0], [6, 12]),
    ]
    assert "SGD 10 seed 30: diverged" in figure.legends[0].get_title().get_text()


def test_the_stability_of_many_seeds_is_a_median_and_a_band(tmp_path: Path) -> None:
    for seed, loss in enumerate((1.0, 2.0, 4.0, 9.0)):
        write_run(tmp_path / str(seed), [loss], optim="sgd", lr=0.1, seed=seed)
    write_run(tmp_path / "held-out", [99.0], optim="sgd", lr=0.1, dataset={"held_out": 500})
    _, points = stability.draw(Runs.read(tmp_path), "title")
    assert [(p.seed, p.rate, p.median, p.low, p.high, p.runs) for p in points] == [(None, 0.1, 3.0, 1.0, 9.0, 4)]


def test_lines_of_steepest_descent_are_straight_on_one_corridor_and_fall_through_four() -> None:
    _, points = surfaces.draw("title")
    for surface, E in (("(a)", fig1a()), ("(b)", fig1b())):
        lines = {p.line for p in points if p.surface == surface}
        assert lines
        for number in lines:
            line = [p for p in points if p.surface == surface and p.line == number]
            falls = [a.loss - b.loss for a, b in pairwise(line)]
            assert min(falls) > 0
            way = math.dist((line[0].x, line[0].y), (line[-1].x, line[-1].y))
            assert way == pytest.approx(surfaces.STEP * (len(line) - 1), rel=1e-6)
            if surface == "(a)":
                assert max(falls) == pytest.approx(min(falls), rel=1e-6)
            else:  # each of the four slopes of the surface
                slopes = {round(fall / surfaces.STEP, 3) for fall in falls}
                assert slopes >= set(E.slopes)
