import copy
import math

import pytest
import torch
from torch import nn

from corridor_exp.optim import CLR, guarded_step

OPTIMIZERS = {
    "clr": lambda p: CLR(p),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "not fused": lambda p: torch.optim.RMSprop(p, lr=0.1),
}


def state_of(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [t.clone() for s in optimizer.state.values() for t in s.values() if isinstance(t, torch.Tensor)]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("loss", "gradient"), [(1.0, math.nan), (1.0, math.inf), (math.nan, 1.0), (math.inf, 1.0)])
def test_nothing_non_finite_reaches_parameters_or_state(name: str, loss: float, gradient: float) -> None:
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = OPTIMIZERS[name]([p])
    for _ in range(2):
        p.grad = torch.tensor([0.5, -0.5])
        guarded_step(optimizer, torch.tensor(1.0))
    before, state = copy.deepcopy(p), state_of(optimizer)
    p.grad = torch.tensor([gradient, 0.0])
    guarded_step(optimizer, torch.tensor(loss))
    assert torch.equal(p, before)
    assert all(torch.equal(a, b) for a, b in zip(state, state_of(optimizer), strict=True))
    p.grad = torch.tensor([0.5, -0.5])
    guarded_step(optimizer, torch.tensor(1.0))
    assert not torch.equal(p, before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_returns_the_squared_gradient_norm(name: str) -> None:
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([3.0, 4.0])
    assert guarded_step(OPTIMIZERS[name]([p]), torch.tensor(1.0)).item() == pytest.approx(25)
