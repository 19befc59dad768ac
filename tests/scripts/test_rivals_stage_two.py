"""`scripts/rivals_stage_two.py`: which settings of a benchmark still lack seeds."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from corridor_exp.figures.rivals import Method, methods_of
from corridor_exp.runs.groups import Runs
from tests.figures.synthetic import write_run

script = runpy.run_path(str(Path(__file__).parents[2] / "scripts/rivals_stage_two.py"))
further_grids: Callable[[list[Method]], list[str]] = script["further_grids"]
TARGETS = {"digits": 0.01, "logistic": 0.01}
DEFAULTS = {"sgd": {"lr": 0.1}, "ngn": {"sigma": 1.0}}


def methods(folder: Path) -> list[Method]:
    return methods_of(Runs.read(folder), TARGETS, DEFAULTS)


def test_the_best_settings_get_all_seeds(tmp_path: Path) -> None:
    """SGD's best rates are two, NGN's best setting is its default, which has all seeds."""
    fast, slow = [1.0, 0.001], [1.0, 1.0, 0.001]
    for problem, best in (("digits", 1.0), ("logistic", 0.01)):
        for rate, seeds in ((0.01, [40]), (0.1, [40, 41, 42]), (1.0, [40])):
            for seed in seeds:
                losses = fast if rate == best else slow
                place = tmp_path / f"{problem}-sgd-{rate}-{seed}"
                write_run(place, losses, optim="sgd", name=problem, seed=seed, gradients=10.0, lr=rate)
        for sigma, seeds in ((0.1, [40]), (1.0, [40, 41, 42])):
            for seed in seeds:
                losses = fast if sigma == 1.0 else slow
                place = tmp_path / f"{problem}-ngn-{sigma}-{seed}"
                write_run(place, losses, optim="ngn", name=problem, seed=seed, gradients=10.0, sigma=sigma)
    assert further_grids(methods(tmp_path)) == ["  - optim=sgd optim.lr=0.01,1 seed=41,42"]
    for problem, rate in (("digits", 1.0), ("logistic", 0.01)):
        for seed in (41, 42):
            place = tmp_path / f"{problem}-sgd-{rate}-{seed}"
            write_run(place, fast, optim="sgd", name=problem, seed=seed, gradients=10.0, lr=rate)
    assert further_grids(methods(tmp_path)) == []


@pytest.mark.parametrize(
    ("runs", "figure", "said"), [("nowhere", "rivals_small", "no runs in"), (".", "nope", "figure=nope: no such")]
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, runs: str, figure: str, said: str) -> None:
    write_run(tmp_path / "run", [1.0], optim="sgd", name="digits", lr=0.1)
    with pytest.raises(SystemExit, match=said):
        script["main"](tmp_path / runs, figure)
