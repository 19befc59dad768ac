"""What a claim makes of runs without the end of a single epoch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.figures.synthetic import SEEDS, as_figure, write_run
from tests.figures.test_claims import SOONER, fig2, reaching, verdict


def test_runs_that_diverged_at_once_are_a_result_and_runs_that_were_cut_at_once_are_none(tmp_path: Path) -> None:
    fig2(tmp_path / "a", (10, 10), {0.1: 30, 0.5: 12, 2.0: 20})
    write_run(tmp_path / "a" / "clr32", seed=32, status="diverged")
    for rate, reached in {0.1: 30, 0.5: 12, 2.0: 20}.items():
        write_run(tmp_path / "a" / f"sgd{rate}-32", reaching(reached), optim="sgd", lr=rate, seed=32)
    row = verdict(SOONER, as_figure(tmp_path / "a", "fig2"))
    assert row.values[32] == pytest.approx(math.log2(12 / 40))
    fig2(tmp_path / "b", (10, 10, 10), {0.1: 30, 0.5: 12})
    for seed in SEEDS:
        write_run(tmp_path / "b" / f"cut{seed}", optim="sgd", lr=2.0, seed=seed)
    assert verdict(SOONER, as_figure(tmp_path / "b", "fig2")).remark == "cut30 ended within its first epoch"
