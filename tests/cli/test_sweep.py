"""`corridor-sweep`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from corridor_exp.runs import records
from tests.cli.sweeps import (
    CRASHING,
    SHORT,
    Run,
    summary,
)
from tests.conftest import without_time


def test_a_union_of_grids_is_frozen_run_and_summed_up(corridor_sweep: Run, digits_run: Run, capsys, tmp_path) -> None:
    argv = [*SHORT, "+", "optim=clr", "+", "optim=sgd", "optim.lr=0.01,0.1", "+", "optim=sgd", "optim.lr=0.1"]
    assert corridor_sweep(*argv, "out_dir=out", "processes=2") == 0
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()[:4]] == [
        ["run", "optim.name", "optim.lr", "status", "steps", "train", "loss", "test", "accuracy", "last", "h"],
        ["0", "clr", "–", "completed", "3", *out.splitlines()[1].split()[5:]],
        ["1", "sgd", "0.01", "completed", "3", *out.splitlines()[2].split()[5:]],
        ["2", "sgd", "0.1", "completed", "3", *out.splitlines()[3].split()[5:]],
    ]
    assert "3 completed" in out
    last = err.rstrip().rpartition("\r")[2]
    assert "3 of 3 runs ended" in last
    assert "running" not in last
    manifest = json.loads((tmp_path / "out/sweep.json").read_text())
    assert manifest["command"] == argv
    assert manifest["runs"] == ["0", "1", "2"]
    assert {"time", "git_commit"} <= manifest.keys()
    assert "completed at step 3" in (tmp_path / "out/1/log.txt").read_text()
    assert digits_run("probe=none", "max_steps=3", "log_every=1", "engine.threads=1", "out_dir=alone") == 0
    assert without_time(tmp_path / "out/0") == without_time(tmp_path / "alone")


def test_the_cores_are_shared_and_the_share_is_frozen(corridor_sweep: Run, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert corridor_sweep(*SHORT, "+", "seed=0", "+", "engine.threads=1", "processes=2", "out_dir=out") == 0
    configs = [yaml.safe_load((tmp_path / f"out/{run}/config.yaml").read_text()) for run in (0, 1)]
    assert [config["engine"]["threads"] for config in configs] == [2, 1]
    assert corridor_sweep(*SHORT, "+", "seed=0", "+", "engine.threads=1", "processes=1", "out_dir=out") == 0


def test_a_figure_at_a_scale_has_a_folder_of_its_own_and_is_found_again(corridor_sweep: Run, capsys) -> None:
    argv = ("figure=example", "scale=smoke", "processes=2")
    assert corridor_sweep(*argv) == 0
    (folder,) = Path("outputs/example-smoke").iterdir()
    assert folder.name.startswith("sweep-")
    assert {f.name for f in folder.iterdir() if f.is_dir()} == {"0", "1", "2", "3"}
    before = {file: file.read_bytes() for file in folder.rglob("*.json*")}
    capsys.readouterr()
    assert corridor_sweep(*argv) == 0
    assert "to do" not in capsys.readouterr().err
    assert corridor_sweep(*argv, "--status") == 0
    assert "4 completed" in capsys.readouterr().out
    assert {file: file.read_bytes() for file in folder.rglob("*.json*")} == before


def test_another_command_in_the_same_folder_is_refused(corridor_sweep: Run, capsys) -> None:
    assert corridor_sweep(*SHORT, "seed=0", "out_dir=out") == 0
    assert corridor_sweep(*SHORT, "seed=1", "out_dir=out") == 2
    assert "out holds another sweep" in capsys.readouterr().err


def test_row_21_run_3_of_10_crashes_the_others_finish_and_a_rerun_runs_only_that(
    corridor_sweep: Run, capsys, tmp_path
) -> None:
    argv = [*SHORT, *CRASHING, "seed=range(10)", "out_dir=out", "processes=2"]
    Path("crash").touch()
    assert corridor_sweep(*argv) == 1
    out = capsys.readouterr().out
    assert [summary(tmp_path / f"out/{run}")["status"] for run in range(10)] == [
        "failed" if run == 3 else "completed" for run in range(10)
    ]
    failures = out.split("1 of 10 runs failed, diverged or were lost:\n")[1].splitlines()
    assert failures[1].split()[:2] == ["3", "failed"]
    assert "killed by SIGKILL" in failures[1]
    assert str(tmp_path / "out/3/log.txt") in failures[1]
    Path("crash").unlink()
    times = {run: (tmp_path / f"out/{run}/summary.json").stat().st_mtime_ns for run in range(10)}
    assert corridor_sweep(*argv, "--retry-failed") == 0
    assert "1 of 10 runs to do" in capsys.readouterr().err
    assert [run for run in range(10) if (tmp_path / f"out/{run}/summary.json").stat().st_mtime_ns != times[run]] == [3]


def test_fail_fast_begins_no_run_after_one_has_failed(corridor_sweep: Run, capsys, tmp_path) -> None:
    argv = [*SHORT, *CRASHING, "seed=range(6)", "out_dir=out"]
    Path("crash").touch()
    assert corridor_sweep(*argv, "--fail-fast") == 1
    assert [(tmp_path / f"out/{run}/records.jsonl").exists() for run in range(6)] == [True] * 3 + [False] * 3
    assert "3 completed, 1 failed, 2 waiting" in capsys.readouterr().out
    Path("crash").unlink()
    assert corridor_sweep(*argv) == 0


def test_row_23_a_yaml_edited_afterwards_has_no_effect_and_that_is_said(corridor_sweep: Run, capsys, tmp_path) -> None:
    option = tmp_path / "conf/optim/mine.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("name: mine\n_target_: torch.optim.SGD\nlr: 0.1\n")
    argv = [*SHORT, *CRASHING, "seed=2,3", "+", "optim=mine", "--config-dir", "conf"]
    Path("crash").touch()
    assert corridor_sweep(*argv) == 1
    Path("crash").unlink()
    capsys.readouterr()
    option.write_text("name: mine\n_target_: torch.optim.SGD\nlr: 0.7\n")
    assert corridor_sweep(*argv) == 0  # found again, although what it would compose has changed
    assert "run 0: optim.lr: 0.1 → 0.7 and 1 more" in capsys.readouterr().err
    for run in (0, 1):
        (folder,) = tmp_path.glob(f"outputs/digits-mlp/sweep-*/{run}")
        assert {r["train/lr"] for r in records.read_records(folder)} == {0.1}
    option.write_text("name: [\n")
    (folder,) = tmp_path.glob("outputs/digits-mlp/*")
    assert corridor_sweep(*argv, f"out_dir={folder}") == 0
    assert corridor_sweep(f"out_dir={folder}") == 0


def test_a_figure_with_a_further_grid_adds_its_runs_to_the_sweep(corridor_sweep: Run, capsys, tmp_path) -> None:
    figure = tmp_path / "conf/figure/mine.yaml"
    figure.parent.mkdir(parents=True)
    figure.write_text(f"common: {' '.join(SHORT)}\ngrids:\n  - optim=clr\n")
    argv = ["figure=mine", "--config-dir", "conf", "out_dir=out"]
    assert corridor_sweep(*argv) == 0
    with figure.open("a") as grids:
        grids.write("  - optim=sgd optim.lr=0.1,0.2\n")
    assert corridor_sweep(*argv) == 0
    said = capsys.readouterr().err
    assert "2 of 3 runs to do" in said
    assert "edited" not in said
    figure.write_text(f"common: {' '.join(SHORT)}\ngrids:\n  - optim=sgd optim.lr=0.1,0.2,0.3,0.4\n")
    assert corridor_sweep(*argv) == 0  # other runs than the folder's: it stays as it was frozen
    assert "conf/ was edited since (3 → 4 runs and" in capsys.readouterr().err


def test_a_diverged_run_is_reported_and_not_run_again(corridor_sweep: Run, capsys, tmp_path) -> None:
    argv = [*SHORT, "optim=sgd", "optim.lr=0.1,1e30", "model.activation=softplus", "out_dir=out"]
    assert corridor_sweep(*argv) == 1
    _, failures = capsys.readouterr().out.split("1 of 2 runs failed, diverged or were lost")
    assert "diverged at step" in failures
    assert summary(tmp_path / "out/1")["status"] == "diverged"
    assert corridor_sweep(*argv) == 1
    assert "to do" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_secret_reaches_the_workers_and_no_file(started, tmp_path) -> None:
    (tmp_path / "conf/logger").mkdir(parents=True)
    (tmp_path / "conf/logger/spy.yaml").write_text("spy:\n  _target_: tests.sweeps.spy.Spy\n  api_key: null\n")
    argv = [*SHORT, "logger=spy", "logger.spy.api_key=hunter2", "allow_targets=[tests.sweeps.]", "seed=0,1"]
    process = started(*argv, "--config-dir", "conf", "out_dir=out")
    said, _ = process.communicate(timeout=90)
    assert process.returncode == 0, said
    assert "hunter2" not in said
    for run in (0, 1):
        assert "the key has 7 letters" in (tmp_path / f"out/{run}/log.txt").read_text()
    assert not any(b"hunter2" in file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file())
