"""`corridor-sweep`, as a user types it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from corridor_exp.errors import UsageError
from corridor_exp.runs import reading, records
from corridor_exp.runs.layout import is_held
from corridor_exp.sweeps import slurm
from corridor_exp.sweeps.frozen import Sweep

COMMAND = [sys.executable, "-m", "corridor_exp.cli.sweep"]
MULTIRUN = [sys.executable, "-m", "corridor_exp.cli.train", "-m"]
DIGITS = ["dataset=digits", "model=mlp", "model.width=16", "logger=jsonl", "probe=none"]
SHORT = [*DIGITS, "max_steps=3", "log_every=1"]
LONG = [*DIGITS, "optim=sgd", "batch_size=50", "log_every=1", "epochs=100000"]
CRASHING = ["model._target_=tests.sweeps.crashing.network", "allow_targets=[tests.sweeps.]"]
Run = Callable[..., int]


def summary(folder: Path) -> dict[str, object]:
    return reading.read_summary(folder)


def without_time(folder: Path) -> list[records.Record]:
    return [{k: v for k, v in r.items() if k != "time"} for r in records.read_records(folder)]


def until(happened: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_records(folder: Path) -> bool:
    file = folder / "records.jsonl"
    return file.exists() and file.stat().st_size > 2000


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`started("seed=0", …)` starts the command in a process group of its own, which does not outlive the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*argv: str, command: list[str] = COMMAND) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*command, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        process.communicate()


# ----------------------------------------------------------------------- bad usage


def test_slurm_is_refused_where_there_is_none(corridor_sweep: Run, capsys, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert corridor_sweep("seed=0", "executor=slurm") == 2
    assert "no Slurm here" in capsys.readouterr().err


def slurm_that_says(text: str, monkeypatch, folder: Path) -> None:
    """Commands of Slurm's that fail with these lines on stderr."""
    folder.mkdir()
    for name in ("sbatch", "srun", "scancel"):
        (folder / name).write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{text}\nEND\nexit 1\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "sbatch: error: fetch_config: DNS SRV lookup failed\n"
            "sbatch: error: _establish_config_source: failed to fetch config\n"
            "sbatch: fatal: Could not establish a configuration source",
            "executor=slurm: no Slurm controller answers sbatch (Could not establish a configuration source): ask "
            "`sinfo`, set SLURM_CONF, or leave out executor=slurm, which runs the sweep here",
        ),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            "executor=slurm: no Slurm controller answers sbatch (Batch job submission failed: Unable to contact slurm "
            "controller (connect failure)): ask",
        ),
        (
            "sbatch: error: invalid partition specified: moon\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
            "sbatch: invalid partition specified: moon; Batch job submission failed: Invalid partition name specified: "
            "change slurm.KEY=VALUE (see --help), or ask `sinfo`\n",
        ),
        ("", "sbatch: no reason given: change slurm.KEY=VALUE"),
    ],
)
def test_a_slurm_that_takes_no_job_is_one_line_with_the_cure(
    corridor_sweep: Run, capsys, monkeypatch, tmp_path, text: str, said: str
) -> None:
    slurm_that_says(text, monkeypatch, tmp_path / "bin")
    assert corridor_sweep(*SHORT, "seed=0,1", "executor=slurm", "out_dir=out") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith(f"corridor-sweep: {said}")
    Path("out/slurm/jobs.json").write_text('{"0": "1_0"}')
    with pytest.raises(UsageError, match="scancel"):
        slurm.cancel(Sweep.open(Path("out")), ["0"])


def test_slurm_without_srun_is_refused(corridor_sweep: Run, capsys, monkeypatch, tmp_path) -> None:
    slurm_that_says("", monkeypatch, tmp_path / "bin")
    (tmp_path / "bin/srun").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert corridor_sweep("seed=0", "executor=slurm") == 2
    assert "no srun in PATH" in capsys.readouterr().err


def test_help_has_examples_and_torch_stays_out() -> None:
    for argv, said in ((["--help"], "+ optim=clr + optim=sgd"), (["optim=crl"], "did you mean")):
        code = (
            f"import sys; from corridor_exp.cli.sweep import main\n"
            f"try: main({argv})\nexcept SystemExit: print('torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert said in done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == "False"


# --------------------------------------------------------------------- a whole sweep


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
    assert "1 of 2 runs failed, diverged or were lost" in capsys.readouterr().out
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


# ------------------------------------------------------------------------- signals


def test_a_second_sweep_is_locked_out_and_cancel_stops_the_first_which_then_goes_on(
    corridor_sweep: Run, started, capsys, tmp_path
) -> None:
    argv = [*LONG, "seed=0,1,2", "processes=2", "out_dir=out"]
    process = started(*argv)
    until(lambda: has_records(tmp_path / "out/0") and has_records(tmp_path / "out/1"))
    assert corridor_sweep(*argv) == 2
    err = capsys.readouterr().err
    assert "another sweep runs in" in err
    assert err.count("\n") == 1
    assert corridor_sweep("out_dir=out", "--status") == 0
    states = [line.split()[2] for line in capsys.readouterr().out.splitlines()[1:4]]
    assert states == ["running", "running", "waiting"]
    assert corridor_sweep("out_dir=out", "--cancel") == 0
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "the same command goes on from here" in said
    assert [summary(tmp_path / f"out/{run}").get("status") for run in range(3)] == ["preempted", "preempted", None]
    assert corridor_sweep("out_dir=out", "--cancel") == 0
    assert "nothing of this sweep runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "command"), [(signal.SIGINT, MULTIRUN), (signal.SIGTERM, COMMAND), (signal.SIGHUP, COMMAND)]
)
def test_a_signal_to_the_whole_group_at_once_is_waited_for_until_the_runs_have_saved(
    started, tmp_path, number: int, command: list[str]
) -> None:
    # SIGINT as Control-C sends it, SIGTERM as `timeout` does, SIGHUP as a terminal does that is closed
    process = started(*LONG, "seed=0,1", "out_dir=out", command=command)
    until(lambda: has_records(tmp_path / "out/0"))
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "1 preempted, 1 waiting" in said
    assert not is_held(tmp_path / "out/0/.lock")
    assert summary(tmp_path / "out/0")["status"] == "preempted"
    assert not has_records(tmp_path / "out/1")


def test_a_signal_that_was_ignored_at_the_start_stays_ignored_by_sweep_and_runs(started, tmp_path) -> None:
    nohup = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *COMMAND]
    process = started(*LONG, "seed=0,1", "out_dir=out", command=nohup)
    until(lambda: has_records(tmp_path / "out/0"))
    os.killpg(process.pid, signal.SIGHUP)
    file = tmp_path / "out/0/records.jsonl"
    seen = file.stat().st_size
    until(lambda: file.stat().st_size > seen + 10_000)
    os.killpg(process.pid, signal.SIGQUIT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "SIGHUP" not in said
    assert "1 preempted, 1 waiting" in said


def test_runs_whose_sweep_is_killed_save_and_are_taken_up_by_the_next(
    corridor_sweep: Run, digits_run: Run, started, tmp_path
) -> None:
    argv = [*DIGITS, "batch_size=50", "log_every=1", "epochs=12", "seed=0,1", "processes=2"]
    process = started(*argv, "out_dir=out")
    until(lambda: has_records(tmp_path / "out/0") and has_records(tmp_path / "out/1"))
    process.kill()  # the sweep alone: its runs notice
    process.wait()
    assert corridor_sweep(*argv, "out_dir=out") == 0
    assert not is_held(tmp_path / "out/0/.lock")
    assert "going on at step" in (tmp_path / "out/0/log.txt").read_text()
    assert corridor_sweep(*argv, "out_dir=whole") == 0
    for run in "01":
        assert without_time(tmp_path / "out" / run) == without_time(tmp_path / "whole" / run)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_sweep_of_12_runs_killed_three_times_at_random_ends_with_the_same_losses(
    corridor_sweep: Run, started, tmp_path
) -> None:
    argv = [*DIGITS, "batch_size=100", "log_every=5", "epochs=20", "checkpoint.every=7", "seed=0,1,2", "processes=2"]
    argv += ["+", "optim=clr", "+", "optim=sgd", "optim.lr=0.01,0.1,1"]
    moments = random.Random(0)

    def completed() -> int:
        return sum(json.loads(f.read_text())["status"] == "completed" for f in tmp_path.glob("out/*/summary.json"))

    for enough in (1, 3, 5):  # runs, not seconds: a fast machine must be stopped in the middle, too
        process = started(*argv, "out_dir=out")
        until(lambda: completed() >= enough or process.poll() is not None)  # noqa: B023
        time.sleep(moments.uniform(0.0, 0.5))
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)  # sweep, fork server and runs, all at once
        process.communicate()
    assert 5 <= completed() < 12
    assert corridor_sweep(*argv, "out_dir=out") == 0
    assert corridor_sweep(*argv, "out_dir=whole") == 0
    logs = [(tmp_path / f"out/{run}/log.txt").read_text() for run in range(12)]
    assert any("going on at step" in log for log in logs)
    for run in range(12):
        assert summary(tmp_path / f"out/{run}")["metrics"] == summary(tmp_path / f"whole/{run}")["metrics"]
        assert without_time(tmp_path / f"out/{run}") == without_time(tmp_path / f"whole/{run}")
