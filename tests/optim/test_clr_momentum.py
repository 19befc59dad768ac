"""CLR with momentum: Eq. 2 for the whole update, velocity and gradient together."""

import copy
import math

import pytest
import torch

from corridor_exp.optim import CLRMomentum
from tests.optim.test_clr import parameter


def test_with_momentum_the_linear_model_of_the_loss_reaches_zero() -> None:
    """E + ⟨g, θ′ − θ⟩ = 0 wherever h > 0, and θ′ = θ + βv where the momentum alone would overshoot."""
    p = parameter(2.0, -1.0, 0.5)
    optimizer = CLRMomentum([p], momentum=0.9)
    weights = torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64)
    before, velocity, positive = p.detach().clone(), torch.zeros(3, dtype=torch.float64), 0
    for _ in range(30):
        loss = (weights * p.square()).sum() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(loss=loss)
        h = optimizer.param_groups[0]["lr"].item()
        if h > 0:
            positive += 1
            assert (loss + p.grad @ (p.detach() - before)).item() == pytest.approx(0, abs=1e-12)
        torch.testing.assert_close(p.detach(), before + 0.9 * velocity - h * p.grad, rtol=1e-12, atol=1e-14)
        before, velocity = p.detach().clone(), p.detach() - before
    assert 0 < positive < 30


def test_momentum_arrives_in_a_corridor_in_one_step_and_stays() -> None:
    p = parameter(3.0, -4.0)
    optimizer = CLRMomentum([p])
    loss = p.norm()
    loss.backward()
    optimizer.step(loss=loss)
    assert p.norm().item() < 1e-14


def test_unsound_steps_leave_the_velocity_alone_too() -> None:
    p = parameter(1.0)
    optimizer = CLRMomentum([p])
    for gradient in (1.0, 0.5, math.nan):
        p.grad = torch.tensor([gradient], dtype=torch.float64)
        before, velocity = p.detach().clone(), copy.deepcopy(optimizer.state[p].get("velocity"))
        optimizer.step(loss=0.1)
    assert torch.equal(p, before)
    assert torch.equal(optimizer.state[p]["velocity"], velocity)
