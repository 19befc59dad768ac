"""The table at the end of a sweep."""

from __future__ import annotations

import math
from pathlib import Path

from corridor_exp.cli.table import table
from corridor_exp.runs.groups import grouped
from corridor_exp.runs.reading import read
from tests.figures.synthetic import write_run


def test_seeds_are_a_line_of_mean_range_and_number(tmp_path: Path) -> None:
    losses = {0: 0.1, 1: 0.2, 2: 0.6}
    for seed, loss in losses.items():
        write_run(tmp_path / f"{seed}", [loss], seed=seed, ended={"step": 10, "metrics": {"train/epoch_loss": loss}})
    write_run(tmp_path / "3", [9.0], optim="sgd", lr=0.5, seed=0, ended={"step": 7, "metrics": {"test/accuracy": 0.25}})
    write_run(tmp_path / "4", [9.0], optim="sgd", lr=0.5, seed=1, status="diverged")
    write_run(tmp_path / "5", optim="sgd", lr=0.5, seed=2, status=None)
    head, clr, sgd, _, note = table([tmp_path / str(number) for number in range(6)]).splitlines()
    assert head.split() == [
        *["runs", "optim.name", "n", "status", "steps", "train", "loss", "test", "accuracy", "last", "h"]
    ]
    assert clr.split("  ")[0] == "0 1 2"
    assert "3  completed" in clr
    assert "10     0.3 (0.1 to 0.6)" in clr
    assert "sgd         3  1 completed, 1 diverged, 1 not started  7 " in sgd
    assert "0.25" in sgd
    assert "n seeds" in note


def test_without_seeds_each_run_has_a_line(tmp_path: Path) -> None:
    write_run(tmp_path / "0", [1.0], optim="sgd", lr=0.1)
    write_run(tmp_path / "1", [1.0], optim="sgd", lr=0.2, status=None)
    lines = table([tmp_path / "0", tmp_path / "1"]).splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["run", "optim.lr", "status"],
        ["0", "0.1", "completed"],
        ["1", "0.2", "not"],
    ]


def test_a_key_that_only_some_runs_of_an_option_have_tells_them_apart(tmp_path: Path) -> None:
    """An option of the user's own may have any key."""
    for number, (seed, more) in enumerate([(0, {}), (1, {}), (0, {"amsgrad": True}), (1, {"amsgrad": True})]):
        ended = {"step": 1, "metrics": {"train/epoch_loss": 0.01 if more else 0.5}}
        write_run(tmp_path / str(number), [1.0], optim="mine", seed=seed, ended=ended, **more)
    head, plain, amsgrad, *_ = table([tmp_path / str(number) for number in range(4)]).splitlines()
    assert head.split()[:2] == ["runs", "optim.amsgrad"]
    assert plain.split()[:4] == ["0", "1", "–", "2"]
    assert amsgrad.split()[:4] == ["2", "3", "True", "2"]
    assert len(grouped([read(tmp_path / str(number)) for number in range(4)])) == 2


def test_a_value_that_is_no_number_has_no_range(tmp_path: Path) -> None:
    ended = {"step": 3, "metrics": {"train/epoch_loss": math.nan}}
    write_run(tmp_path / "0", [1.0], optim="sgd", lr=0.5, seed=0, status="diverged", ended=ended)
    (row,) = [line for line in table([tmp_path / "0"]).splitlines() if "diverged" in line]
    assert "nan" in row
    assert "to nan" not in row
