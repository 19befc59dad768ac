"""A copy of an optimizer, by `copy.deepcopy` or `pickle`, goes on as the original does, bit for bit."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from corridor_exp.objective import Batch, Objective
from corridor_exp.optim import CLR, GuardedOptimizer
from tests.conftest import engine_of, same
from tests.optim.test_options import OPTIONS


def take_steps(objective: Objective, optimizer: GuardedOptimizer, batches: list[Batch]) -> list[torch.Tensor]:
    for batch in batches:
        optimizer.prepare(objective, batch)
        loss, _ = objective.backward(batch)
        optimizer.step(loss=loss)
    return [p.detach().clone() for p in objective.theta]


def pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("overrides", OPTIONS, ids="-".join)
def test_a_copy_steps_to_the_same_bits(overrides: list[str], copied: Callable[[Any], Any]) -> None:
    engine, _ = engine_of(*overrides)
    batches = list(engine.dataset.train_batches(0, 20))[:9]
    take_steps(engine.objective, engine.optimizer, batches[:4])
    engine.objective.model.zero_grad()
    model, optimizer = copied((engine.objective.model, engine.optimizer))
    theirs = take_steps(Objective(model, engine.dataset.loss), optimizer, batches[4:])
    assert not same(theirs, [p.detach() for p in engine.objective.theta])
    assert same(theirs, take_steps(engine.objective, engine.optimizer, batches[4:]))
    assert type(optimizer).__name__ == type(engine.optimizer).__name__
    assert optimizer.state_dict().keys() == engine.optimizer.state_dict().keys()


def test_a_copy_is_no_slave_of_the_original() -> None:
    """A schedule has put a `step` into the original that steps the original; a trial holds its objective."""
    p = nn.Parameter(torch.ones(2))
    optimizer = CLR([p], step_cap=0.1)
    torch.optim.lr_scheduler.ConstantLR(optimizer)
    other = copy.deepcopy(optimizer)
    (q,) = other.param_groups[0]["params"]
    q.grad = torch.ones(2)
    with pytest.warns(UserWarning, match="schedule"):
        other.step(loss=1.0)
    assert p.tolist() == [1.0, 1.0]
    assert q.tolist() == pytest.approx([0.9, 0.9])
    engine, _ = engine_of("optim=clr_trust")
    engine.optimizer.prepare(engine.objective, next(iter(engine.dataset.train_batches(0, 20))))
    with pytest.raises(TypeError, match="prepare"):
        pickled(engine.optimizer).step_size(None)
