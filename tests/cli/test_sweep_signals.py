"""A sweep that is locked, cancelled, stopped or killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest

from corridor_exp.runs.layout import is_held
from tests.cli.sweeps import (
    COMMAND,
    DIGITS,
    LONG,
    MULTIRUN,
    Run,
    has_records,
    summary,
)
from tests.conftest import until, without_time


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
    argv = [*DIGITS, "batch_size=50", "log_every=1", "epochs=60", "seed=0,1", "processes=2"]
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
