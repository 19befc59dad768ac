from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from corridor_exp.objective import Objective
from corridor_exp.optim import CDAT
from tests.conftest import ANY_BATCH, Surface, mean

A = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)


def parabola(**options: float) -> tuple[Objective, CDAT]:
    objective = Objective(Surface(torch.tensor([1.0, -2.0], dtype=torch.float64), lambda t: t @ A @ t / 2), loss=mean)
    return objective, CDAT(objective.theta, **options)


def take_step(objective: Objective, optimizer: CDAT) -> tuple[float, torch.Tensor]:
    """E and g before the step."""
    optimizer.prepare(objective, ANY_BATCH)
    loss, _ = objective.backward(ANY_BATCH)
    optimizer.step(loss=loss)
    return loss.item(), objective.theta[0].grad.clone()


def test_at_scale_1_it_is_the_exact_line_search_of_a_parabola() -> None:
    """The next gradient is at a right angle to this one."""
    objective, optimizer = parabola(scale=1.0, beta=0.0)
    gradients = [take_step(objective, optimizer)[1] for _ in range(6)]
    for g, after in pairwise(gradients):
        assert (g @ after).item() == pytest.approx(0, abs=1e-13 * g.norm().item())


def test_at_scale_2_it_is_the_edge_of_stability_where_the_loss_stays() -> None:
    objective, optimizer = parabola(scale=2.0, beta=0.0)
    losses = [take_step(objective, optimizer)[0] for _ in range(6)]
    assert losses == pytest.approx(losses[:1] * 6, rel=1e-12)


def test_numerator_and_denominator_are_averaged_apart() -> None:
    objective, optimizer = parabola(scale=0.5, beta=0.8)
    theta, n, d = np.array([1.0, -2.0]), 0.0, 0.0
    for _ in range(20):
        g = A.numpy() @ theta
        n, d = 0.8 * n + 0.2 * g @ g, 0.8 * d + 0.2 * abs(g @ A.numpy() @ g)
        theta = theta - 0.5 * n / d * g
        take_step(objective, optimizer)
        np.testing.assert_allclose(objective.theta[0].detach().numpy(), theta, rtol=1e-10)


def test_negative_curvature_counts_as_its_size() -> None:
    objective = Objective(Surface(torch.tensor([1.0], dtype=torch.float64), lambda t: 3 - t.square().sum()), loss=mean)
    optimizer = CDAT(objective.theta, scale=1.0)
    take_step(objective, optimizer)
    assert optimizer.step_taken.item() == pytest.approx(0.5)


def test_a_flat_direction_has_no_step_and_is_forgotten() -> None:
    objective = Objective(Surface(torch.tensor([1.0], dtype=torch.float64), lambda t: t.sum()), loss=mean)
    optimizer = CDAT(objective.theta)
    take_step(objective, optimizer)
    assert objective.theta[0].item() == 1.0
    assert optimizer.memory["averages"].tolist() == [0, 0]
    capped = CDAT(objective.theta, step_cap=0.25)
    take_step(objective, capped)
    assert objective.theta[0].item() == 0.75


def test_unprepared_or_impossible_it_is_refused() -> None:
    objective, optimizer = parabola()
    loss, _ = objective.backward(ANY_BATCH)
    with pytest.raises(TypeError, match="prepare"):
        optimizer.step(loss=loss)
    for options in ({"scale": 0.0}, {"beta": 1.0}):
        with pytest.raises(ValueError, match="must be"):
            parabola(**options)


def test_a_multiplier_is_refused() -> None:
    p, q = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    with pytest.raises(ValueError, match="no multiplier"):
        CDAT([{"params": [p], "multiplier": 10.0}, {"params": [q]}])
