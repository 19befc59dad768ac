from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sps_safe import SPS_safe
from torch import nn

from corridor_exp.optim import ScheduleFreePolyak
from tests.optim.test_polyak import FLOAT, descend, least_squares

RNG = np.random.default_rng(0)
A, B, START = RNG.normal(size=(8, 5)), RNG.normal(size=8), RNG.normal(size=5)


def E(t: torch.Tensor, rows: object = slice(None)) -> torch.Tensor:
    return (torch.as_tensor(A[rows]) @ t - torch.as_tensor(B[rows])).square().mean()


def test_it_is_its_algorithm_in_numpy_and_tests_the_mean_of_z() -> None:
    """z, x and y as in the paper; both branches of the safeguard, and of the numerator, occur."""
    beta, M, bound = 0.9, 1.5, 1.0
    p = nn.Parameter(torch.tensor(START))
    optimizer = ScheduleFreePolyak([p], momentum=beta, safeguard=M, f_star=bound)
    z = x = y = START
    guarded, stopped, seen = [], [], []
    for k in range(1, 61):
        rows = RNG.choice(8, 3, replace=False)
        residual = A[rows] @ y - B[rows]
        g = 2 * A[rows].T @ residual / 3
        numerator = (residual**2).mean() - bound + beta * g @ (z - x)
        guarded.append(g @ g < M)
        stopped.append(numerator < 0)
        z = z - max(numerator, 0) / max(g @ g, M) * g
        seen.append(z)
        x = (1 - 1 / k) * x + z / k
        y = (1 - beta) * z + beta * x
        descend(optimizer, p, lambda t, rows=rows: E(t, rows))
        np.testing.assert_allclose(p.detach().numpy(), y, rtol=1e-9, atol=1e-11)
        with optimizer.evaluation_weights():
            np.testing.assert_allclose(p.detach().numpy(), np.mean(seen, axis=0), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(p.detach().numpy(), y, rtol=1e-9, atol=1e-11)
    assert 0 < sum(guarded) < 60
    assert 0 < sum(stopped) < 60


def test_without_momentum_it_is_the_authors_sps_safe() -> None:
    mine, theirs = nn.Parameter(torch.tensor(START)), nn.Parameter(torch.tensor(START))
    ours, package = ScheduleFreePolyak([mine], momentum=0.0), SPS_safe([theirs])
    for _ in range(12):  # later it is chaotic
        theirs.grad = None
        loss = E(theirs)
        loss.backward()
        package.step(loss=loss.detach())
        descend(ours, mine, E)
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-9)


def test_it_finds_a_minimum_that_is_known() -> None:
    loss, start, minimum = least_squares()
    p = nn.Parameter(start.clone())
    optimizer = ScheduleFreePolyak([p], safeguard=1e-9, f_star=minimum)
    for _ in range(1000):
        descend(optimizer, p, loss)
    with optimizer.evaluation_weights():
        assert loss(p).item() - minimum < 1e-3 * (loss(start).item() - minimum)


@pytest.mark.parametrize(("loss", "gradient"), [(1.0, math.nan), (math.nan, 1.0), (1.0, 0.0)])
def test_an_unsound_step_changes_neither_point_nor_mean(loss: float, gradient: float) -> None:
    p = nn.Parameter(torch.tensor([1.0, 0.3], **FLOAT))
    optimizer = ScheduleFreePolyak([p])
    for _ in range(3):
        descend(optimizer, p, lambda t: t.square().sum())
    before = [p.detach().clone(), *(t.clone() for t in optimizer.state[p].values()), optimizer.memory["steps"]]
    p.grad = torch.tensor([gradient, 0.0], **FLOAT)
    optimizer.step(loss=loss)
    after = [p.detach(), *optimizer.state[p].values(), optimizer.memory["steps"]]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_impossible_settings_are_refused() -> None:
    p = nn.Parameter(torch.zeros(1))
    for options in ({"momentum": 1.0}, {"safeguard": -1.0}):
        with pytest.raises(ValueError, match="momentum must be"):
            ScheduleFreePolyak([p], **options)
