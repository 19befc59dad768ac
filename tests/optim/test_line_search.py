"""PoNoS and SLS against their rules, written again in numpy, on sampled batches of a least-squares problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.cost import FORWARD, GRADIENT
from corridor_exp.optim import SLS, CLRTrust, PoNoS
from corridor_exp.optim.line_search import SMALLEST, LineSearch
from tests.conftest import ANY_BATCH, Surface, mean, small_batch, small_network


class Step(NamedTuple):
    loss: float
    norm_sq: float
    loss_at: Callable[[float], float]  # after a step of this length


def steps_of(optimizer_of: Callable[..., LineSearch], count: int, noise: float) -> Iterator[tuple[Step, float, int]]:
    """What a rule sees at each step, and what the optimizer makes of it: its step and its trials."""
    rng = np.random.default_rng(3)
    A = rng.normal(size=(60, 4)) * np.array([1, 2, 0.5, 3])
    b = A @ rng.normal(size=4) + noise * rng.normal(size=60)
    model = nn.Linear(4, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    objective = Objective(model, loss=F.mse_loss)
    optimizer = optimizer_of(objective.theta)
    for _ in range(count):
        rows = rng.choice(60, 8, replace=False)
        theta = model.weight.detach().numpy()[0].copy()
        E = lambda t, rows=rows: ((A[rows] @ t - b[rows]) ** 2).mean()  # noqa: E731
        g = 2 * A[rows].T @ (A[rows] @ theta - b[rows]) / 8
        batch = Batch(torch.as_tensor(A[rows]), torch.as_tensor(b[rows])[:, None])
        before = objective.passes
        optimizer.prepare(objective, batch)
        loss, _ = objective.backward(batch)
        optimizer.step(loss=loss)
        h = optimizer.step_taken.item()
        np.testing.assert_allclose(model.weight.detach().numpy()[0], theta - h * g, rtol=1e-10, atol=1e-12)
        trials = (objective.passes - before - GRADIENT) // FORWARD
        yield Step(E(theta), g @ g, lambda h, E=E, t=theta, g=g: E(t - h * g)), h, trials


def test_ponos_is_its_algorithm() -> None:
    losses, remembered, refusals, capped = [], 0, [], 0
    for at, h, trials in steps_of(lambda p: PoNoS(p, step_cap=0.3), 60, noise=0.5):
        losses.append(at.loss)
        expected = min(at.loss / (0.1 * at.norm_sq) * 0.5**remembered, 0.3)
        capped += expected == 0.3
        bound = max(np.mean(losses), at.loss)
        refused = 0
        while at.loss_at(expected) > bound - 0.5 * expected * at.norm_sq:
            expected, refused = expected / 2, refused + 1
        assert h == pytest.approx(expected, rel=1e-10)
        assert trials == refused + 1
        remembered = max(remembered + refused - 1, 0)
        refusals.append(refused)
    assert max(refusals) > 1
    assert 0 in refusals
    assert 0 < capped < 60


def test_sls_is_armijos_rule_from_a_step_that_may_double_in_an_epoch() -> None:
    before, refusals = 0.2, []
    for at, h, trials in steps_of(lambda p: SLS(p, initial_step=0.2, steps_per_epoch=5), 60, noise=0.5):
        expected, refused = before * 2 ** (1 / 5), 0
        while at.loss_at(expected) > at.loss - 0.1 * expected * at.norm_sq:
            expected, refused = expected * 0.9, refused + 1
        assert h == pytest.approx(expected, rel=1e-10)
        assert trials == refused + 1
        before = h
        refusals.append(refused)
    assert max(refusals) > 1
    assert 0 in refusals


def test_with_interpolation_sls_finds_the_minimum() -> None:
    assert [at.loss for at, _, _ in steps_of(SLS, 150, noise=0.0)][-1] < 1e-6


@pytest.mark.parametrize(("make", "left"), [(PoNoS, SMALLEST), (SLS, SMALLEST), (CLRTrust, 0.0)])
def test_a_search_that_finds_nothing_ends(make: Callable[..., LineSearch], left: float) -> None:
    """Its loss is higher everywhere on the way, however short: the gradient is turned round after it was taken."""
    wall = Surface(torch.zeros(1, dtype=torch.float64), lambda t: 2 + t.sum() + (t > 0).sum())
    objective = Objective(wall, loss=mean)
    optimizer = make(objective.theta)
    optimizer.prepare(objective, ANY_BATCH)
    loss, _ = objective.backward(ANY_BATCH)
    objective.theta[0].grad.neg_()
    optimizer.step(loss=loss)
    assert optimizer.step_taken.item() == pytest.approx(left)
    assert objective.theta[0].item() == pytest.approx(left)


@pytest.mark.parametrize("make", [PoNoS, SLS, CLRTrust])
@pytest.mark.parametrize(("loss", "gradient"), [(np.inf, 1.0), (np.nan, 1.0), (1.0, np.nan), (1.0, np.inf), (1.0, 0.0)])
def test_nothing_unsound_is_tried_or_remembered(make: Callable[..., LineSearch], loss: float, gradient: float) -> None:
    objective = Objective(Surface(torch.ones(1), lambda t: t.square().sum()), loss=mean)
    optimizer = make(objective.theta)
    optimizer.prepare(objective, ANY_BATCH)
    objective.theta[0].grad = torch.tensor([gradient])
    memory = {key: value.clone() for key, value in optimizer.memory.items()}
    optimizer.step(loss=loss)
    assert objective.passes == 0
    assert objective.theta[0].item() == 1.0
    assert all(torch.equal(value, optimizer.memory[key]) for key, value in memory.items())


def test_impossible_settings_are_refused() -> None:
    p = nn.Parameter(torch.zeros(1))
    for make in (
        lambda: PoNoS([p], c=0.0),
        lambda: PoNoS([p], decrease=1.0),
        lambda: SLS([p], shrink=1.0),
        lambda: SLS([p], initial_step=0.0),
    ):
        with pytest.raises(ValueError, match="must"):
            make()
    p.grad = torch.ones(1)
    with pytest.raises(TypeError, match=r"PoNoS.*prepare"):
        PoNoS([p]).step(loss=1.0)


def test_the_bound_of_a_batch_holds_for_its_trials_too() -> None:
    steps = []
    for own, of_the_step in ((0.3, None), (0.0, 0.3)):
        model, batch = small_network(), small_batch()
        objective = Objective(model)
        optimizer = PoNoS(model.parameters(), f_star=own)
        optimizer.prepare(objective, batch)
        loss, _ = objective.backward(batch)
        optimizer.step(loss=loss, f_star=of_the_step)
        steps.append(optimizer.step_taken.item())
    assert steps[0] == steps[1] > SMALLEST
