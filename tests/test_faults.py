"""Real processes that are stopped and killed, for rows of docs/reliability.md. Other files test the other rows.

Each process is forked from one that has imported torch, because the import takes longer than the test.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from corridor_exp.cli.train import main
from corridor_exp.runs import checkpoint, layout, records
from corridor_exp.sweeps.local import LIBRARIES
from tests.conftest import SMALL, engine_of, same, weights, without_time

ROOT = Path(__file__).parents[1]
DIRECTORY = Path("out", layout.CHECKPOINTS)
Patch = Callable[[], None]


def test_every_row_of_the_reliability_page_names_its_tests() -> None:
    """The page names no test that does not exist, and every test that has a row's number in its name."""
    numbered: dict[str, set[str]] = defaultdict(set)
    existing = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        for name in re.findall(r"def (test_\w+)", file.read_text()):
            existing.add(test := f"{file.relative_to(ROOT)}::{name}")
            for row in re.findall(r"row_(\d+)_", name):
                numbered[row].add(test)
    page = (ROOT / "docs" / "reliability.md").read_text()
    _, *rows = re.split(r"^## (\d+)\. ", page, flags=re.MULTILINE)
    named = {row: set(re.findall(r"tests/\S+::\w+", text)) for row, text in zip(rows[::2], rows[1::2], strict=True)}
    assert sorted(named, key=int) == [str(row) for row in range(1, 24)]
    for row, tests in named.items():
        assert numbered.pop(row) <= tests <= existing
    assert not numbered


# ------------------------------------------------------------------------ processes


def nothing() -> None:
    """Change nothing in the run."""


def slow_disk(seconds: float) -> None:
    """Make every flush take `seconds`, so that a kill or a signal hits a save."""
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(seconds)
        fsync(descriptor)

    os.fsync = slow


def slow_images() -> None:
    """Make the run wait for its data most of the time."""
    from corridor_exp.datasets.folder import _Crops

    read = _Crops.__getitem__

    def slow(crops: _Crops, key: tuple[int, int]) -> object:
        time.sleep(0.03)
        return read(crops, key)

    _Crops.__getitem__ = slow


def _process(argv: list[str], patch: Patch) -> None:
    os.setpgrp()  # its own process group: a shell and Slurm also give a job one
    multiprocessing.set_start_method("fork", force=True)  # for the workers, so that they are in the group
    patch()
    sys.argv = ["corridor-train"]
    main(argv)


def started(argv: list[str], patch: Patch = nothing) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES, "corridor_exp.config.compose", "tests.test_faults"])
    process = context.Process(target=_process, args=(argv, patch))
    process.start()
    return process


def wait_until(process: BaseProcess, happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.is_alive(), process.exitcode
        assert time.monotonic() < deadline
        time.sleep(0.001)


def exit_code(process: BaseProcess) -> int | None:
    process.join(60)
    return process.exitcode


def written() -> list[records.Record]:
    return list(records.read_records(Path("out"))) if Path("out", layout.RECORDS_FILE).exists() else []


def is_saving() -> bool:
    return any(DIRECTORY.glob(".*.tmp"))


def newest_step() -> int:
    saved = checkpoint.load_newest(DIRECTORY)
    return saved["engine"]["progress"]["step"] if saved else 0


# ----------------------------------------------------------------------------- rows


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_row_1_and_row_2_killed_50_times_also_while_saving_a_run_has_the_bits_of_one_that_was_not() -> None:
    argv = ["log_every=1", "probe=none", "epochs=100000", "checkpoint.every=1"]
    rng, kills_in_a_save, step = random.Random(0), 0, 0

    def has_come_further() -> bool:
        saved = [int(path.name.split(".")[0].removeprefix("step_")) for path in DIRECTORY.glob("step_*.pt")]
        return len(written()) > step + 2 and max(saved, default=0) > step

    for kill in range(50):
        process = started([*SMALL, *argv, "out_dir=out"], partial(slow_disk, 0.01))
        wait_until(process, has_come_further)
        time.sleep(rng.uniform(0, 0.05))
        if kill % 2:
            wait_until(process, is_saving)
        os.kill(process.pid, signal.SIGKILL)
        assert exit_code(process) == -signal.SIGKILL
        kills_in_a_save += is_saving()
        before, step = step, newest_step()
        assert step > before
        assert not is_saving()  # the temporary file that the kill left is gone
    assert kills_in_a_save >= 10
    process = started([*SMALL, *argv, "out_dir=out"], partial(slow_disk, 0.01))
    wait_until(process, has_come_further)
    os.kill(process.pid, signal.SIGTERM)
    assert exit_code(process) == 75
    undisturbed, emitted = engine_of(*argv)
    undisturbed.should_stop = lambda: undisturbed.progress.step == newest_step()
    assert undisturbed.train() == "preempted"
    assert without_time(written()) == without_time(emitted)
    resumed, _ = engine_of(*argv)
    resumed.load_state_dict(checkpoint.load_newest(DIRECTORY)["engine"])
    assert same(weights(resumed), weights(undisturbed))


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """A run on small image files with two workers: 20 steps of 6 images, then 30 images to test on."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("val", 15)):
        for name in "ab":
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{i}.png")
    data = ["dataset=imagefolder", "dataset.root=data", "dataset.image_size=16", "dataset.workers=2"]
    return [*data, "model=linear", "logger=jsonl", "probe=none", "batch_size=6", "log_every=1", "epochs=2"]


LOADING, EVALUATING = 3, 19  # the number of records at that moment


@pytest.mark.parametrize(
    ("number", "records_before"),
    [
        (signal.SIGTERM, LOADING),
        (signal.SIGTERM, EVALUATING),
        (signal.SIGUSR2, LOADING),
        (signal.SIGUSR2, EVALUATING),
        (signal.SIGHUP, LOADING),
        (signal.SIGQUIT, EVALUATING),
        (signal.SIGXCPU, LOADING),
    ],
)
def test_row_4_a_signal_to_the_group_of_a_run_with_workers_costs_one_more_step_and_saves(
    images: list[str], number: int, records_before: int
) -> None:
    process = started([*images, "out_dir=out"], slow_images)
    wait_until(process, lambda: len(written()) >= records_before)
    if records_before == EVALUATING:  # the record of an epoch's last step waits for its evaluation
        time.sleep(0.3)
    os.killpg(process.pid, number)
    seen = len(written())
    assert exit_code(process) == 75
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["status"] == "preempted"
    assert summary["step"] <= seen + 2
    assert newest_step() == summary["step"]
    assert exit_code(started([*images, "out_dir=out"])) == 0
    resumed = without_time(written())
    Path("out").rename("stopped")
    assert exit_code(started([*images, "out_dir=out"])) == 0
    assert resumed == without_time(written())


def no_hangup() -> None:
    """Start the run as `nohup` does."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_a_signal_that_was_ignored_at_the_start_stays_ignored() -> None:
    argv = [*SMALL, "log_every=1", "probe=none", "epochs=100000", "checkpoint.every=1000000", "out_dir=out"]
    process = started(argv, no_hangup)
    wait_until(process, lambda: len(written()) > 5)
    os.kill(process.pid, signal.SIGHUP)
    seen = len(written())
    wait_until(process, lambda: len(written()) > seen + 50)
    os.kill(process.pid, signal.SIGTERM)
    assert exit_code(process) == 75


def test_row_6_a_second_signal_while_saving_lets_the_save_complete() -> None:
    argv = [*SMALL, "log_every=1", "probe=none", "epochs=100000", "checkpoint.every=1000000", "out_dir=out"]
    process = started(argv, partial(slow_disk, 1.0))
    wait_until(process, lambda: len(written()) > 5)
    os.kill(process.pid, signal.SIGTERM)
    wait_until(process, is_saving)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        os.kill(process.pid, number)
        time.sleep(0.1)
    assert exit_code(process) == 75
    assert newest_step() == json.loads(Path("out/summary.json").read_text())["step"] > 5


def test_a_signal_while_torch_is_still_loading_is_heeded_too(tmp_path: Path) -> None:
    """A job of Slurm may be preempted in its first seconds."""
    import subprocess

    command = [sys.executable, "-m", "corridor_exp.cli.train", *SMALL, "epochs=100000", "out_dir=out"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while b"libtorch" not in Path(f"/proc/{process.pid}/maps").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert json.loads(Path("out/summary.json").read_text())["step"] == 1
