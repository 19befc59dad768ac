from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from corridor_exp.files import to_json
from corridor_exp.sweeps.status import share_done, state_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("max_steps: null\nepochs: 4\nresume: {override: false}\n")
    return tmp_path


def write(folder: Path, *lines: dict[str, object], summary: dict[str, object] | None = None) -> None:
    (folder / "records.jsonl").write_text("".join(to_json(line) + "\n" for line in lines))
    if summary:
        (folder / "summary.json").write_text(to_json(summary))


FIRST = {"step": 4, "epoch": 0, "time": 3.0, "train/loss": 2.0}
LAST_OF_EPOCH = {"step": 9, "epoch": 0, "time": 6.0, "train/loss": 1.5, "train/epoch_loss": 1.7}
SECOND = {"step": 14, "epoch": 1, "time": 9.0, "train/loss": 1.0}


def test_a_run_waits_then_is_lost_if_it_began_and_nobody_runs_it(folder: Path) -> None:
    assert state_of(folder).state == "waiting"
    (folder / "log.txt").write_text("loading\rgoing\n")
    assert (state_of(folder).state, state_of(folder).remark) == ("lost", "going")


def test_a_locked_run_is_running_and_says_how_long(folder: Path) -> None:
    with FileLock(folder / ".lock"):
        write(folder, FIRST)
        assert (state_of(folder).state, state_of(folder).step, state_of(folder).loss) == ("running", 5, 2.0)
        assert state_of(folder).eta is None
        assert share_done(folder) == 0.0
        (folder / ".steps").write_text("20")
        assert state_of(folder).eta == pytest.approx(3.0 / 5 * 15)
        assert share_done(folder) == 0.25
        write(folder, FIRST, LAST_OF_EPOCH)
        assert state_of(folder).loss == 1.7
        write(folder, FIRST, LAST_OF_EPOCH, SECOND)
        assert state_of(folder).loss == 1.0
        assert share_done(folder) == 0.75
        assert state_of(folder).row == ["running", "15", "1", "0:00:03", ""]


@pytest.mark.parametrize("status", ["completed", "diverged", "preempted", "failed"])
def test_a_summary_says_how_a_run_ended(folder: Path, status: str) -> None:
    write(folder, FIRST, summary={"status": status, "error": "no data" if status == "failed" else None})
    seen = state_of(folder)
    assert (seen.state, seen.remark, seen.eta) == (status, "no data" if status == "failed" else "", None)


@pytest.mark.parametrize(
    ("job", "state", "queued"),
    [
        ("PENDING", "waiting", True),
        ("RUNNING", "running", True),
        ("COMPLETED", "waiting", False),
        ("CANCELLED BY 0", "waiting", False),
        ("OUT_OF_MEMORY", "failed", False),
    ],
)
def test_slurm_is_asked_about_runs_without_a_summary(folder: Path, job: str, state: str, queued: bool) -> None:
    seen = state_of(folder, job)
    assert (seen.state, seen.queued) == (state, queued)
    if state == "failed":
        assert job in seen.remark


@pytest.mark.parametrize(
    ("log", "job", "state", "remark"),
    [
        (None, "", "waiting", ""),
        (-10, "", "waiting", ""),
        (10, "", "failed", "refused"),
        (None, "NODE_FAIL", "failed", "Slurm: NODE_FAIL; "),
        (10, "NODE_FAIL", "failed", "refused"),
    ],
)
def test_a_run_that_ended_and_has_not_taken_its_change_is_none_that_ended(
    folder: Path, log: int | None, job: str, state: str, remark: str
) -> None:
    """`log` is how many seconds after the change the run has written to its log."""
    write(folder, FIRST, summary={"status": "completed"})
    assert state_of(folder).state == "completed"
    changed = folder / "config.changed.yaml"
    changed.write_text("max_steps: null\n")
    if log is not None:
        (folder / "log.txt").write_text("refused\n")
        os.utime(folder / "log.txt", (changed.stat().st_mtime + log,) * 2)
    assert (state_of(folder, job).state, state_of(folder, job).remark) == (state, remark)
