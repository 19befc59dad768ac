"""`scripts/rivals_claim.py`: the stages that the rule of docs/rules.md asks for, and its verdict."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from corridor_exp.runs.groups import Runs
from tests.figures.synthetic import write_run

claim = runpy.run_path(str(Path(__file__).parents[2] / "scripts/rivals_claim.py"))
SEEDS = (40, 41, 42)
FAST, SLOW, NEVER = [1.0, 0.001], [1.0, 1.0, 0.001], [1.0, 0.9, 0.8]  # G = 1.67, 2.67 and ∞ times an epoch's cost
DECADES = {"sgd": [0.001, 0.01, 0.1, 1.0, 10.0], "adamw": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]}
PROBLEMS = ("logistic", "factorisation", "digits", "resnet18_haiku", "resnet20", "vgg11")


def runs_of(folder: Path, problem: str, optim: str, rates: dict[float, list[float]], seeds: tuple[int, ...]) -> None:
    for rate, losses in rates.items():
        for seed in seeds:
            for momentum in (0.0, 0.9) if optim == "sgd" else (None,):
                own = {} if momentum is None else {"momentum": momentum}
                place = folder / f"{problem}-{optim}{momentum}-{rate:g}-{seed}"
                if not place.exists():
                    keys = {"optim": optim, "seed": seed, "name": problem, "gradients": 100.0, "lr": rate, **own}
                    write_run(place, losses, **keys)  # type: ignore[arg-type]


def ours(folder: Path, problem: str, losses: list[float]) -> None:
    for seed in SEEDS:
        name = f"{problem}-ours-{seed}"
        write_run(folder / name, losses, optim="clr_trust", seed=seed, name=problem, gradients=130.0, step_cap=None)


def stage_one(folder: Path, problem: str, best: int = 2) -> None:
    for optim, rates in DECADES.items():
        losses = {rate: FAST if n == best else NEVER for n, rate in enumerate(rates)}
        runs_of(folder, problem, optim, losses, SEEDS[:1])


def stage_two(folder: Path, problem: str, losses: tuple[list[float], list[float], list[float]]) -> None:
    for optim, rates in (("sgd", (0.071, 0.1, 0.14)), ("adamw", (0.00071, 0.001, 0.0014))):
        runs_of(folder, problem, optim, dict(zip(rates, losses, strict=True)), SEEDS)


def problems(folder: Path) -> list[object]:
    runs = Runs.read(folder)
    return [claim["Problem"].of(name, 0.01, runs) for name in PROBLEMS]


def asked(folder: Path) -> str:
    found: str = claim["next_sweep"](problems(folder), folder)
    return found


def test_the_stages(tmp_path: Path) -> None:
    ours(tmp_path, "digits", FAST)
    first = asked(tmp_path)
    assert "+ name=digits dataset=digits model=mlp batch_size=100 epochs=40 optim=sgd optim.momentum=0.9" in first
    assert "optim.lr=0.001,0.01,0.1,1,10 seed=40" in first
    assert first.count("+ ") == 3
    stage_one(tmp_path, "digits")
    second = asked(tmp_path)
    assert "optim=adamw optim.lr=0.00071,0.001,0.0014 seed=40,41,42" in second
    stage_two(tmp_path, "digits", (SLOW, FAST, SLOW))
    assert asked(tmp_path) == ""


def test_the_grids_grow_while_the_best_is_at_an_end(tmp_path: Path) -> None:
    ours(tmp_path, "digits", FAST)
    stage_one(tmp_path, "digits", best=4)
    assert "optim.lr=100 seed=40" in asked(tmp_path)
    other = tmp_path / "other"
    ours(other, "digits", FAST)
    stage_one(other, "digits")
    stage_two(other, "digits", (SLOW, SLOW, FAST))
    assert "optim.lr=0.2 seed=40,41,42" in asked(other)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([FAST] * 6, "reproduced"),
        ([FAST] * 4 + [SLOW] * 2, "reproduced"),
        ([FAST] * 3 + [SLOW] * 3, "not reproduced"),
        ([FAST] * 3 + [NEVER] * 3, "not reproduced"),
        ([FAST] * 3, "undecided"),  # three problems have no runs
        ([SLOW] * 3, "not reproduced"),  # the other three, without runs, are not enough
    ],
)
def test_the_verdict(costs: list[list[float]], expected: str, tmp_path: Path) -> None:
    for problem, losses in zip(PROBLEMS, costs, strict=False):
        ours(tmp_path, problem, losses)
        stage_one(tmp_path, problem)
        stage_two(tmp_path, problem, (SLOW, FAST, SLOW))
    found = claim["counts"](problems(tmp_path))
    assert claim["verdict"](found) == expected


def test_a_rival_that_never_gets_there_is_bounded_by_what_it_has_cost(tmp_path: Path) -> None:
    """Within 1.3 of its budget counts, and above that the problem is open."""
    for problem, losses in (("digits", FAST), ("logistic", [1.0] * 9 + [0.001])):
        ours(tmp_path, problem, losses)
        stage_two(tmp_path, problem, (NEVER, [1.0, 0.5, 0.1], NEVER))
        stage_one(tmp_path, problem)
    logistic, _, digits, *_ = problems(tmp_path)
    assert digits.within(40, digits.chosen()) is True  # type: ignore[attr-defined]
    assert logistic.within(40, logistic.chosen()) is None  # type: ignore[attr-defined]


def test_a_problem_is_open_while_a_rival_lacks_a_stage(tmp_path: Path) -> None:
    """The defaults of SGD alone have all seeds, and a rate of SGD that was not run may be the cheapest."""
    ours(tmp_path, "digits", FAST)
    stage_one(tmp_path, "digits")
    runs_of(tmp_path, "digits", "adamw", {0.00071: NEVER, 0.001: FAST, 0.0014: NEVER}, SEEDS)
    runs_of(tmp_path, "digits", "sgd", {0.1: NEVER}, SEEDS)
    _, _, digits, *_ = problems(tmp_path)
    assert digits.chosen().name == "AdamW"  # type: ignore[attr-defined]
    assert digits.within(40, digits.chosen()) is None  # type: ignore[attr-defined]
    assert digits.within(40, digits.chosen("AdamW")) is None  # type: ignore[attr-defined]
    runs_of(tmp_path, "digits", "sgd", {0.071: NEVER, 0.14: NEVER}, SEEDS)
    _, _, digits, *_ = problems(tmp_path)
    assert digits.within(40, digits.chosen()) is True  # type: ignore[attr-defined]
