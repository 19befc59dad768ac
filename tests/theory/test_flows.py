import math

import numpy as np
import pytest
import torch
from scipy.integrate import RK45, solve_ivp

from corridor_exp.theory import flows

THETA = torch.tensor([1.0, -0.5], dtype=torch.float64)


def linear_field(theta: torch.Tensor) -> torch.Tensor:
    return torch.tensor([1.0, 3.0], dtype=torch.float64) * theta


def coupled_field(theta: torch.Tensor) -> torch.Tensor:
    x, y = theta
    return torch.stack([x**3 + y, x + y**3 + torch.sin(y)])


def test_the_flow_of_a_quadratic_is_exponential() -> None:
    end = flows.gradient_flow(linear_field, THETA, 2.0, rtol=1e-10, atol=1e-12)
    expected = THETA * torch.tensor([math.exp(-2), math.exp(-6)], dtype=torch.float64)
    torch.testing.assert_close(end, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("rtol", [1e-4, 1e-8])
def test_the_flow_is_scipys_to_the_tolerance(rtol: float) -> None:
    def f(_: float, y: np.ndarray) -> np.ndarray:
        return -coupled_field(torch.as_tensor(y)).numpy()

    oracle = solve_ivp(f, (0, 3.0), THETA.numpy(), method="DOP853", rtol=1e-13, atol=1e-13).y[:, -1]
    end = flows.gradient_flow(coupled_field, THETA, 3.0, rtol=rtol, atol=1e-12)
    assert np.abs(end.numpy() - oracle).max() < 10 * rtol


def test_a_flow_too_stiff_is_an_error_and_not_a_long_wait() -> None:
    with pytest.raises(ArithmeticError, match="more than 50 gradients"):
        flows.gradient_flow(lambda t: 1e6 * t, THETA, 1.0, max_evaluations=50)


def test_a_gradient_of_another_shape_is_an_error_and_not_a_growing_theta() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 2\), and θ \(2,\)"):
        flows.gradient_flow(lambda t: t.expand(3, 2), THETA, 1.0)


def test_a_step_of_the_flow_is_a_step_of_scipys_rk45() -> None:
    h, f = 0.3, lambda _, y: -coupled_field(torch.as_tensor(y)).numpy()
    oracle = RK45(f, 0.0, THETA.numpy(), t_bound=1.0, first_step=h, rtol=1.0, atol=1.0)
    oracle.step()
    end, slope, estimate = flows.dormand_prince_step(coupled_field, THETA, h, -coupled_field(THETA))
    np.testing.assert_allclose(end, oracle.y, rtol=1e-14)
    np.testing.assert_allclose(slope, oracle.f, rtol=1e-13)
    np.testing.assert_allclose(estimate, -h * oracle.K.T @ oracle.E, rtol=0, atol=1e-15)


def test_momentum_is_torchs() -> None:
    p = torch.nn.Parameter(THETA.clone())
    optimizer = torch.optim.SGD([p], lr=0.05, momentum=0.9)
    for mine in flows.momentum(coupled_field, THETA, 0.05, 0.9, 10):
        p.grad = coupled_field(p.detach())
        optimizer.step()
        torch.testing.assert_close(p.detach(), mine, rtol=1e-13, atol=0)


def test_runge_kutta_is_taylor_to_order_four_on_a_linear_field() -> None:
    h = 0.1
    step = flows.rk4_step(lambda t: t, THETA, h)
    torch.testing.assert_close(step, THETA * sum((-h) ** k / math.factorial(k) for k in range(5)), rtol=1e-14, atol=0)


def test_the_modified_flow_of_equal_batches_is_that_of_gradient_descent() -> None:
    """With one gradient for all batches the spread vanishes and g + (h/4)∇‖g‖² = (1 + hλ/2) λθ remains."""
    field = flows.sgd_modified_field([lambda t: 2 * t] * 3, h=0.1)
    torch.testing.assert_close(field(THETA), 2 * THETA * (1 + 0.1), rtol=1e-14, atol=0)
