"""`scripts/thin.py`: records that are small enough for the repository, and tell figures and claims the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from corridor_exp.figures.claims import CLAIMS
from corridor_exp.figures.run_statistics import step_sizes
from corridor_exp.figures.verdicts import judge
from corridor_exp.runs import records
from corridor_exp.runs.groups import Runs
from corridor_exp.runs.reading import read
from tests.figures.synthetic import SEEDS, as_figure, write_run

SCRIPT = Path(__file__).parents[2] / "scripts" / "thin.py"


def thin(sweep: Path, out: Path) -> None:
    subprocess.run([sys.executable, str(SCRIPT), str(sweep), str(out)], check=True)


def test_claims_are_the_same(tmp_path: Path) -> None:
    looks, h = [(0.1 + n / 7, 0.2) for n in range(10)], [0.1, 0.3, *[1.0] * 12, 0.2, 0.2]  # a cap of 1
    for seed in SEEDS:
        write_run(tmp_path / "a" / f"clr{seed}", [2.0, 0.04, 0.001], h=h, looks=looks, accuracy=0.3, seed=seed)
        for rate in (0.1, 0.5, 2.0):
            write_run(tmp_path / "a" / f"sgd{rate}-{seed}", [2.0, 1.0], optim="sgd", lr=rate, seed=seed, accuracy=0.4)
    as_figure(tmp_path / "a", "fig2")
    thin(tmp_path / "a", tmp_path / "b")
    before, after = Runs.read(tmp_path / "a"), Runs.read(tmp_path / "b")
    for claim in CLAIMS:
        assert asdict(judge(claim, after)) == asdict(judge(claim, before))
    for thinned, run in zip(after.where(optim__name="clr"), before.where(optim__name="clr"), strict=True):
        assert step_sizes(thinned) == step_sizes(run)


def test_a_real_run_keeps_epochs_and_looks_whole_and_loses_no_digit(
    tmp_path: Path, corridor_sweep: Callable[..., int]
) -> None:
    line = "dataset=digits model=mlp batch_size=500 epochs=4 log_every=1 probe.every=5 logger=jsonl seed=0 out_dir=a"
    assert (
        corridor_sweep(*line.split(), "+", "optim=clr", "+", "optim=sgd", "optim.lr=0.1", "probe=corridor,noise") == 0
    )
    thin(Path("a"), Path("b"))
    for number in ("0", "1", "2"):
        was, now = read(Path("a", number)), read(Path("b", number))
        assert (now.status, now.config, now.summary) == (was.status, was.config, was.summary)
        by_step = {record["step"]: record for record in now.records}
        for record in was.records:
            if {records.TRAIN_EPOCH_LOSS, records.HG_NORM, records.GROWTH_RATIO} & record.keys():
                assert by_step[record["step"]] == pytest.approx(record, rel=1e-7)
        kept = {record["step"] for record in now.records}
        assert kept == (set(range(12)) if number == "0" else {0, 2, 5, 8, 10, 11})  # a fixed rate says nothing new
    assert Path("b/0/records.jsonl").stat().st_size < 0.9 * Path("a/0/records.jsonl").stat().st_size


def test_a_copy_of_a_thinned_sweep_goes_on(tmp_path: Path, corridor_sweep: Callable[..., int], capsys) -> None:
    """What has ended is kept, what has not ended is trained from its configuration."""
    line = ["dataset=digits", "model=mlp", "epochs=1", "probe=none", "logger=jsonl", "seed=0,1", "out_dir=a"]
    assert corridor_sweep(*line) == 0
    Path("a/1/summary.json").unlink()
    thin(Path("a"), Path("b"))
    assert sorted(path.name for path in Path("b/1").iterdir()) == ["config.yaml"]
    before = Path("b/0/records.jsonl").read_bytes()
    assert corridor_sweep("out_dir=b") == 0
    assert "1 of 2 runs to do" in capsys.readouterr().err
    assert Path("b/0/records.jsonl").read_bytes() == before
    assert read(Path("b/1")).status == "completed"


def test_how_far_a_run_came_is_kept(tmp_path: Path) -> None:
    """Also of one at a fixed rate, without looks, that ended within an epoch."""
    for name, status in (("cut", "completed"), ("lost", "diverged")):
        write_run(tmp_path / "a" / name, h=[0.1] * 7, optim="sgd", lr=0.1, status=status, ended={"step": 7})
    as_figure(tmp_path / "a", "fig2")
    thin(tmp_path / "a", tmp_path / "b")
    for name in ("cut", "lost"):
        was, now = read(tmp_path / "a" / name), read(tmp_path / "b" / name)
        assert (now.status, now.faults) == (was.status, [])
        assert [record["step"] for record in now.records] == [6]
