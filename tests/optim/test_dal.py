import pytest
import torch
from torch import nn

from corridor_exp.objective import Objective
from corridor_exp.optim import DAL
from tests.conftest import small_batch, small_network


def dense_ratio(objective: Objective) -> float:
    """‖Hg‖/‖g‖ by the whole Hessian matrix."""
    batch = small_batch()
    shapes = [p.shape for p in objective.theta]
    flat = torch.cat([p.detach().reshape(-1) for p in objective.theta])

    def E(theta: torch.Tensor) -> torch.Tensor:
        parts = theta.split([s.numel() for s in shapes])
        state = {n: t.view(s) for n, t, s in zip(objective.names, parts, shapes, strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(objective.model, state, (batch.x,)), batch.y)

    g = torch.func.grad(E)(flat)
    return ((torch.func.hessian(E)(flat) @ g).norm() / g.norm()).item()


@pytest.mark.parametrize(("power", "cap"), [(1.0, None), (0.5, None), (2.0, 1e-4)])
def test_the_step_is_that_of_the_dense_hessian(power: float, cap: float | None) -> None:
    objective = Objective(small_network())
    expected = 2 / dense_ratio(objective) ** power
    optimizer = DAL(objective.theta, power=power, step_cap=cap)
    optimizer.prepare(objective, small_batch())
    loss, _ = objective.backward(small_batch())
    optimizer.step(lambda: loss)
    h = optimizer.param_groups[0]["lr"].item()
    assert h == pytest.approx(min(expected, cap or expected), rel=1e-10)


def test_on_a_smooth_network_the_secant_agrees_and_on_relu_it_sees_the_kinks() -> None:
    steps = {}
    for activation in (nn.Tanh, nn.ReLU):
        for curvature in ("autodiff", "secant"):
            objective = Objective(small_network(activation=activation))
            optimizer = DAL(objective.theta, step_cap=None, curvature=curvature, offset=0.1)
            optimizer.prepare(objective, small_batch())
            loss, _ = objective.backward(small_batch())
            optimizer.step(lambda loss=loss: loss)
            steps[activation, curvature] = optimizer.param_groups[0]["lr"].item()
    assert steps[nn.Tanh, "secant"] == pytest.approx(steps[nn.Tanh, "autodiff"], rel=0.03)
    assert steps[nn.ReLU, "secant"] < 0.7 * steps[nn.ReLU, "autodiff"]


def test_a_step_unprepared_is_refused() -> None:
    p = nn.Parameter(torch.ones(1))
    p.grad = torch.ones(1)
    with pytest.raises(TypeError, match="prepare"):
        DAL([p]).step(loss=1.0)
    with pytest.raises(ValueError, match="autodiff or secant"):
        DAL([p], curvature="both")
