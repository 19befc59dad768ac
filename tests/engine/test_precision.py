"""Precision, compiled models and the device: the loop trains like the plain one, and waits for nothing."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from corridor_exp.config.compose import compose_jobs
from corridor_exp.engine.build import SAME_DRAWS
from corridor_exp.engine.run import run
from corridor_exp.objective import Batch, Objective
from corridor_exp.runs import records
from tests.conftest import SMALL, engine_of, without_time


def test_fp16_overflows_shrink_the_scale_and_do_not_end_the_run() -> None:
    engine, emitted = engine_of("engine.precision=fp16", "optim=clr", "optim.step_cap=1", "epochs=20")
    engine.scaler._init_scale = 2.0**30  # the first gradients overflow
    assert engine.train() == "completed"
    assert engine.scaler.get_scale() < 2.0**30
    other, _ = engine_of("engine.precision=fp16", "optim=clr", "optim.step_cap=1", "epochs=20")
    other.load_state_dict(engine.state_dict())
    assert other.scaler.get_scale() == engine.scaler.get_scale()
    assert emitted[-1][records.TRAIN_LOSS] < emitted[0][records.TRAIN_LOSS]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_like_single(precision: str) -> None:
    engine, emitted = engine_of(f"engine.precision={precision}", "optim=sgd", "optim.lr=0.1", "epochs=10")
    engine.train()
    exact, expected = engine_of("engine.precision=fp32", "optim=sgd", "optim.lr=0.1", "epochs=10")
    exact.train()
    assert emitted[-1][records.TRAIN_LOSS] == pytest.approx(expected[-1][records.TRAIN_LOSS], rel=0.05)
    assert emitted[-1][records.TRAIN_LOSS] != expected[-1][records.TRAIN_LOSS]


@pytest.mark.cuda
def test_the_loop_waits_for_the_device_only_at_records(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = engine_of("engine.device=cuda", "log_every=1000", "batch_size=16", "dataset.train_size=1000")
    batches = engine.dataset.train_batches(0, 16)
    engine._step(next(batches))  # is recorded
    engine._step(next(batches))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            engine._step(next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_model_without_a_length_can_be_compiled_too() -> None:
    engine, _ = engine_of("engine.compile=true", "model=resnet18", "model.width=4", "dataset.image_size=16")
    assert isinstance(engine.objective.forward, torch._dynamo.OptimizedModule)


def test_a_compiled_model_trains_like_the_plain_one_and_is_probed() -> None:
    clr = ["optim=clr", "optim.step_cap=0.1"]  # uncapped it is chaotic
    compiled, seen = engine_of("engine.compile=true", "max_steps=8", "log_every=1", "probe.every=4", *clr)
    plain, expected = engine_of("max_steps=8", "log_every=1", "probe.every=4", *clr)
    compiled.train(), plain.train()
    for mine, theirs in zip(without_time(seen), without_time(expected), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, nan_ok=True)


def test_compiled_code_is_compared_with_the_model_and_nothing_changes() -> None:
    """Dropout too: both draw the same random numbers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
    objective = Objective(model, forward=torch.compile(model, options=SAME_DRAWS), micro_batch=16)
    batch = Batch(torch.randn(40, 4), torch.arange(40) % 3)
    state, draws = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert objective.forward_error(batch) < 1e-5
    assert torch.equal(torch.get_rng_state(), draws)
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("factor", [1.02, float("nan")])
def test_a_run_whose_compiled_code_is_wrong_fails(
    factor: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, options: lambda x: factor * model(x))
    (config,) = compose_jobs([*SMALL, "engine.compile=true", "engine.precision=fp32"], multirun=False)
    assert run(config, tmp_path, should_stop=lambda: False) == "failed"
    error = json.loads((tmp_path / "summary.json").read_text())["error"]
    assert re.match(
        r"engine\.compile=true: .* differs from the model's by (0\.0|nan).* set engine\.compile=false", error
    )


def test_no_look_calls_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's compiled functions have no double backward."""
    engine, _ = engine_of("probe=[corridor,noise,sharpness]", "probe.every=1", "max_steps=2")
    calls: list[int] = []
    forward = engine.objective.forward
    monkeypatch.setattr(engine.objective, "forward", lambda x: calls.append(len(x)) or forward(x))
    engine.train()
    assert len(calls) == 2
