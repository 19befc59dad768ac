from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from corridor_exp.optim import NGN, NGNMomentum
from tests.optim.test_polyak import FLOAT, descend, least_squares


@pytest.mark.parametrize("sigma", [0.1, 1.0, 1e6])
def test_on_a_parabola_it_is_the_implicit_euler_step_of_any_length(sigma: float) -> None:
    """E = ½aθ²: θ′ = θ/(1 + aσ), which never diverges."""
    a, p = 3.0, nn.Parameter(torch.tensor([2.0], **FLOAT))
    optimizer = NGN([p], sigma=sigma)
    for k in range(1, 6):
        descend(optimizer, p, lambda t: a / 2 * t.square().sum())
        assert p.item() == pytest.approx(2 / (1 + a * sigma) ** k, rel=1e-7, abs=1e-40)


def test_a_step_by_hand() -> None:
    """E = 3, ‖g‖² = 25, f* = 1 and σ = 2: h = 2/(1 + 2·25/(2·2)) = 2/13.5."""
    p = nn.Parameter(torch.zeros(2, **FLOAT))
    p.grad = torch.tensor([3.0, 4.0], **FLOAT)
    optimizer = NGN([p], sigma=2.0, f_star=1.0)
    optimizer.step(loss=3.0)
    assert optimizer.step_taken.item() == pytest.approx(2 / 13.5, rel=1e-15)
    assert p.tolist() == pytest.approx([-6 / 13.5, -8 / 13.5], rel=1e-15)
    optimizer.step(loss=1.0)  # at the lower bound there is nothing to gain
    assert optimizer.step_taken.item() == 0


def test_it_lies_below_sigma_and_below_twice_polyaks_step_and_tends_to_either() -> None:
    for sigma, expected in ((1e-6, 1e-6), (1e6, 2 * 3 / 25)):
        p = nn.Parameter(torch.zeros(2, **FLOAT))
        p.grad = torch.tensor([3.0, 4.0], **FLOAT)
        optimizer = NGN([p], sigma=sigma)
        optimizer.step(loss=3.0)
        h = optimizer.step_taken.item()
        assert h < min(sigma, 2 * 3 / 25)
        assert h == pytest.approx(expected, rel=1e-4)


def test_the_momentum_form_is_algorithm_1_in_numpy() -> None:
    E, start, _ = least_squares()
    A_and_b = torch.func.jacrev(torch.func.grad(E))(start).numpy(), torch.func.grad(E)(torch.zeros_like(start)).numpy()
    constant = E(torch.zeros_like(start)).item()
    p = nn.Parameter(start.clone())
    optimizer = NGNMomentum([p], sigma=0.7, momentum=0.8)
    before = now = start.numpy()
    for _ in range(40):
        H, b = A_and_b
        loss, g = now @ H @ now / 2 + b @ now + constant, H @ now + b
        h = 0.7 / (1 + 0.7 / (2 * loss) * (g @ g))
        before, now = now, now - 0.2 * h * g + 0.8 * (now - before)
        descend(optimizer, p, E)
        np.testing.assert_allclose(p.detach().numpy(), now, rtol=1e-9, atol=1e-12)
        assert optimizer.step_taken.item() == pytest.approx(0.2 * h, rel=1e-9)


def test_without_momentum_both_are_one() -> None:
    E, start, _ = least_squares()
    plain, heavy = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = NGN([plain]), NGNMomentum([heavy], momentum=0.0)
    for _ in range(10):
        descend(optimizers[0], plain, E)
        descend(optimizers[1], heavy, E)
        torch.testing.assert_close(plain, heavy, rtol=1e-13, atol=0)


def test_impossible_settings_are_refused() -> None:
    p = nn.Parameter(torch.zeros(1))
    for make in (lambda: NGN([p], sigma=0.0), lambda: NGNMomentum([p], sigma=-1.0), lambda: NGNMomentum([p], 1.0, 1.0)):
        with pytest.raises(ValueError, match="must be"):
            make()
