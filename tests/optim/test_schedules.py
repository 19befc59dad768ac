import math

import pytest
import torch
from torch import nn

from corridor_exp.optim import build_schedule


def rates(steps: int, name: str, **options: float) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = build_schedule(optimizer, steps, name, **options)
    assert scheduler is not None
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_a_constant_rate_needs_no_schedule() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    assert build_schedule(optimizer, 5, "constant") is None


def test_warm_up_rises_linearly_to_the_rate() -> None:
    assert rates(6, "constant", warmup=3) == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_cosine_with_restarts_is_sgdr() -> None:
    """h_min + ½(h_max − h_min)(1 + cos(π T_cur/T_i)), periods of 4 and 8 steps."""
    low, high = 0.1, 2.0
    expected = [low + (high - low) * (1 + math.cos(math.pi * t / T)) / 2 for T in (4, 8) for t in range(T)]
    assert rates(12, "cosine", period=4, period_factor=2, min_lr=low) == pytest.approx(expected)


def test_cosine_without_a_period_decays_once_after_the_warm_up() -> None:
    seen = rates(12, "cosine", warmup=2)
    expected = [2 * (1 + math.cos(math.pi * t / 10)) / 2 for t in range(10)]
    assert seen[2:] == pytest.approx(expected)
