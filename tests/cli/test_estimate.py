"""`--estimate`, as a user types it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from corridor_exp.config.compose import compose_jobs
from corridor_exp.engine import estimate
from corridor_exp.probes import Corridor
from tests.conftest import SMALL

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "ENOUGH", 0.2)


def test_steps_looks_and_evaluations_are_those_of_the_run(monkeypatch) -> None:
    (config,) = compose_jobs([*SMALL, "epochs=5", "probe.every=7", "eval_every=2"], multirun=False)
    cost = estimate.estimate(config)
    assert (cost.steps, cost.looks, cost.evaluations, cost.batch_size) == (20, 3, 3, 64)
    assert cost.seconds == pytest.approx(20 * cost.step + 3 * cost.look + 3 * cost.evaluation)
    assert cost.step > 0
    assert cost.look > 0
    assert cost.memory > 50e6
    (short,) = compose_jobs([*SMALL, "max_steps=6", "probe=none"], multirun=False)
    cost = estimate.estimate(short)
    assert (cost.steps, cost.looks, cost.look) == (6, 0, 0.0)


def test_a_slower_step_is_a_longer_run(monkeypatch) -> None:
    import time

    from corridor_exp.engine.loop import Engine

    step = Engine._step

    def slow(engine: Engine, batch: object) -> object:
        time.sleep(0.05)
        return step(engine, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "_step", slow)
    (config,) = compose_jobs([*SMALL, "epochs=5", "probe=none"], multirun=False)
    assert estimate.estimate(config).seconds > 20 * 0.05


@pytest.mark.parametrize(("slow", "looks"), [(0.0, 1), (3600.0, 2)])
def test_a_slow_look_is_timed_at_its_first_time(slow: float, looks: int, monkeypatch) -> None:
    done = []
    look = Corridor.look
    monkeypatch.setattr(Corridor, "look", lambda *args: done.append(1) or look(*args))
    monkeypatch.setattr(estimate, "SLOW", slow, raising=False)
    (config,) = compose_jobs([*SMALL, "epochs=5", "engine.device=cpu"], multirun=False)
    assert estimate.estimate(config).look > 0
    assert len(done) == looks


def test_the_command_prints_it_and_writes_nothing(digits_run: Run, corridor_sweep: Run, capsys) -> None:
    assert digits_run("epochs=4", "--estimate") == 0
    said, shown = capsys.readouterr()
    moments = [shown.find(f"{phase} digits-mlp, clr") for phase in estimate.PHASES]
    assert moments == sorted(moments)
    assert -1 < shown.find("loading torch") < moments[0]
    assert re.search(r"12 steps of [\d.]+ m?s, [\d,]+ images/s", said)
    assert "digits-mlp, clr, batch 512: 1 run of 0:" in said
    grids = ["seed=0,1,2", "+", "optim=clr", "+", "optim=sgd", "optim.lr=0.01,0.1,1"]
    assert corridor_sweep(*SMALL, "epochs=4", "processes=2", "--estimate", *grids) == 0
    said = capsys.readouterr().out
    assert "clr, batch 64: 3 runs of" in said
    assert "sgd, batch 64: 9 runs of" in said
    assert "in all: 12 runs" in said
    assert not list(Path().iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a peak")
def test_the_memory_is_not_that_of_what_was_before() -> None:
    (config,) = compose_jobs([*SMALL, "probe=none"], multirun=False)
    alone = estimate.estimate(config).memory
    np.ones(60_000_000)  # half a gigabyte, for a moment
    assert estimate.estimate(config).memory < alone + 100_000_000
