"""What happens to several ranks where one is stopped, fails, dies or runs out of memory."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from corridor_exp.engine.first_batch import fit_to_memory
from corridor_exp.engine.loop import Engine
from corridor_exp.errors import RunError
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective import ranks as distributed
from corridor_exp.runs import checkpoint, layout
from tests.conftest import engine_of, until, without_time
from tests.objective.ranks import MLP, exit_codes, said, small_engine, started, train


def wait_for_records_and_a_checkpoint(folder: str) -> None:
    file = Path(folder, layout.RECORDS_FILE)
    until(lambda: file.exists() and file.stat().st_size >= 2000)
    until(lambda: list(Path(folder, "checkpoints").glob("[!.]*.pt")))


def test_row_5_a_signal_to_one_rank_stops_all_at_the_same_step() -> None:
    argv = [*MLP, "epochs=100000", "log_every=1", "probe=none", "checkpoint.every=10", "out_dir=out"]
    processes = started(2, train, *argv)
    wait_for_records_and_a_checkpoint("out")
    os.kill(processes[1].pid, signal.SIGUSR2)
    assert exit_codes(processes) == [75, 75]
    summary = json.loads(Path("out/summary.json").read_text())
    saved = checkpoint.load_newest(Path("out/checkpoints"))
    assert summary["status"] == "preempted"
    assert saved["engine"]["progress"]["step"] == summary["step"]


def raising(*argv: str) -> None:
    step = Engine._step

    def broken(engine: Engine, batch: Batch) -> object:
        if engine.ranks.rank == 1 and engine.progress.step == 20:
            raise ValueError("a fault of this rank")
        return step(engine, batch)

    Engine._step = broken  # type: ignore[method-assign, assignment]
    train(*argv)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raises", "is killed"])
def test_row_15_where_one_rank_fails_the_others_end_and_a_restart_goes_on(how: str) -> None:
    argv = [*MLP, "epochs=400", "log_every=1", "probe=none", "checkpoint.every=10", "out_dir=out"]
    begun = time.monotonic()
    processes = started(2, raising if how == "raises" else train, *argv)
    if how == "is killed":
        wait_for_records_and_a_checkpoint("out")
        os.kill(processes[1].pid, signal.SIGKILL)
    first, second = exit_codes(processes)
    assert time.monotonic() - begun < 60
    assert first == 1
    assert second == (1 if how == "raises" else -signal.SIGKILL)
    if how == "raises":
        assert "rank 1: ValueError: a fault of this rank" in said(1)
        assert "Traceback" in said(1)
    assert "rank 0: " in said(0)
    assert json.loads(Path("out/summary.json").read_text())["status"] == "failed"
    assert exit_codes(started(2, train, *argv)) == [0, 0]
    assert "going on at step" in said(0)
    assert exit_codes(started(2, train, *[*argv[:-1], "out_dir=whole"])) == [0, 0]
    assert without_time("out") == without_time("whole")


class Memory:
    """A device that has room for so many images at a time, on one of the ranks for fewer."""

    def __init__(self, room: int) -> None:
        self.room, self.losses = room, Objective._losses

    def __enter__(self) -> None:
        memory = self

        def losses(objective: Objective, batch: Batch) -> Iterator[Tensor]:
            for share in memory.losses(objective, batch):
                if min(objective.micro_batch or len(batch.x), len(batch.x)) > memory.room:
                    raise torch.OutOfMemoryError
                yield share

        Objective._losses = losses  # type: ignore[method-assign, assignment]

    def __exit__(self, *_: object) -> None:
        Objective._losses = self.losses  # type: ignore[method-assign]


def test_row_14_out_of_memory_halves_the_micro_batch_before_anything_changes(caplog) -> None:
    whole, expected = engine_of("epochs=2", "log_every=1")
    engine, emitted = engine_of("epochs=2", "log_every=1")
    before = [p.clone() for p in engine.objective.theta]
    rng = torch.get_rng_state()
    with Memory(room=20):
        fit_to_memory(engine)
    assert engine.objective.micro_batch == 16
    assert len(caplog.messages) == 2
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(a, b) for a, b in zip(before, engine.objective.theta, strict=True))
    assert engine.train() == whole.train() == "completed"
    assert emitted[0]["train/loss"] == pytest.approx(expected[0]["train/loss"], rel=1e-5)
    saved = engine.state_dict()
    resumed, _ = engine_of("epochs=2", "log_every=1")
    resumed.load_state_dict(saved)
    assert resumed.objective.micro_batch == 16


def test_row_14_batch_norm_is_warned_of_and_one_image_too_many_is_an_error(caplog) -> None:
    engine, _ = engine_of("model=resnet18", "model.width=4", "dataset.image_size=16", "probe=none")
    with Memory(room=40):
        fit_to_memory(engine)
    assert any("batch norm" in line for line in caplog.messages)
    with Memory(room=0), pytest.raises(RunError, match=r"even with engine\.micro_batch=1"):
        fit_to_memory(engine)


def little_memory() -> None:
    ranks = distributed.launched()
    with distributed.connected(ranks), Memory(room=4 if ranks.rank else 100):
        engine = small_engine(ranks)
        fit_to_memory(engine)
        assert engine.objective.micro_batch == 3


def test_row_14_all_ranks_halve_together() -> None:
    assert exit_codes(started(2, little_memory)) == [0, 0]
