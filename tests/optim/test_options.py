"""Every option of conf/optim, on digits: it trains, and a run cut in two has the bits of one that was not."""

from __future__ import annotations

import pytest
import torch

from corridor_exp.config.compose import compose_jobs
from corridor_exp.config.options import CONF_DIR, option_groups
from corridor_exp.errors import UsageError
from corridor_exp.runs import records
from tests.conftest import SMALL, assert_resumes_to_the_same_bits, engine_of, same, weights

VARIANTS = [
    ["optim=sgd", "optim.momentum=0.9"],
    ["optim=sps_max", "optim.smooth=true"],
    ["optim=hazan_kakade", "optim.adaptive=true", "optim.horizon=7", "batch_size=full", "epochs=30"],
    ["optim=dal", "optim.curvature=secant"],
    ["optim=mechanic", "optim.momentum=0.5"],
]
OPTIONS = [[f"optim={name}"] for name in option_groups([CONF_DIR])["optim"]] + VARIANTS


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("overrides", OPTIONS, ids="-".join)
def test_thirty_steps_cut_at_fifteen_and_resumed_are_the_same_bits(overrides: list[str], device: str, tmp_path) -> None:
    overrides = ["epochs=8", "max_steps=30", "log_every=1", "probe=none", f"engine.device={device}", *overrides]
    start = weights(engine_of(*overrides)[0])
    whole, expected = assert_resumes_to_the_same_bits(overrides, 15, tmp_path)
    assert len(expected) == 30
    assert not same(start, weights(whole))
    assert all(torch.isfinite(t).all() for t in weights(whole))
    told = [r.get(records.TRAIN_LR) for r in expected]
    tells_none = overrides[-1] in ("optim=momo", "optim=momo_adam")
    assert all(h is None for h in told) if tells_none else all(h >= 0 for h in told)


def test_testing_on_averaged_weights_leaves_the_training_weights_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = engine_of("optim=schedule_free", "max_steps=6")
    engine.train()
    before = weights(engine)
    averaged = engine.evaluate()
    assert same(before, weights(engine))
    monkeypatch.delattr(type(engine.optimizer.optimizer), "eval")
    assert engine.evaluate() != averaged


def test_the_adaptive_bound_needs_full_batches() -> None:
    with pytest.raises(UsageError, match="batch_size=full"):
        compose_jobs([*SMALL, "optim=hazan_kakade", "optim.adaptive=true"], multirun=False)
