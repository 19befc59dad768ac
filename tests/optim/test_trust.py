from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from corridor_exp.objective import Batch, Objective
from corridor_exp.optim import CLR, CLRTrust
from tests.conftest import ANY_BATCH, Surface, engine_of, mean, same, weights


def on_surface(E: Callable[[Tensor], Tensor], start: list[float], **options: int) -> tuple[Objective, CLRTrust]:
    objective = Objective(Surface(torch.tensor(start, dtype=torch.float64), E), loss=mean)
    return objective, CLRTrust(objective.theta, **options)


def take_step(objective: Objective, optimizer: CLRTrust) -> tuple[float, float]:
    """The loss before the step, and the step."""
    optimizer.look(objective, ANY_BATCH)
    loss, _ = objective.backward(ANY_BATCH)
    optimizer.step(lambda: loss)
    return loss.item(), optimizer.param_groups[0]["lr"].item()


def test_halves_until_the_loss_is_below_the_reference() -> None:
    """On E = 1 + θ² the free step overshoots near the minimum; the steps are CLR's times powers of ½, and lawful."""
    objective, optimizer = on_surface(lambda t: 1 + t.square().sum(), [0.4], least_window=1)
    rejected = 0
    for _ in range(4):
        theta = objective.theta[0].item()
        E, h = take_step(objective, optimizer)
        free = E / (4 * theta**2)
        halvings = round(torch.tensor(free / h).log2().item())
        assert h == pytest.approx(free / 2**halvings, rel=1e-12)
        after = 1 + objective.theta[0].item() ** 2
        assert after <= E - 0.1 * h * 4 * theta**2 + 1e-12
        if halvings:  # one halving fewer would not have been lawful
            further = 1 + (theta - 2 * h * 2 * theta) ** 2
            assert further > E - 0.1 * 2 * h * 4 * theta**2
        rejected += halvings
    assert rejected > 0


def test_a_step_may_climb_to_where_the_losses_of_the_window_were() -> None:
    """The mean of the window is above the present loss, so a step is taken that a monotone rule would refuse."""

    def E(t: Tensor) -> Tensor:
        return 1 + t.square().sum()

    objective, patient = on_surface(E, [0.4], steps_per_epoch=2, least_window=1)
    patient.memory["losses"][0], patient.memory["count"] = 50.0, torch.tensor(1)
    strict_objective, strict = on_surface(E, [0.4], least_window=1)
    assert take_step(objective, patient)[1] > take_step(strict_objective, strict)[1]
    assert E(objective.theta[0]).item() > 1.16


def test_where_nothing_is_rejected_it_is_clr_bit_for_bit() -> None:
    common = ["max_steps=8", "optim.f_star=0", "model.norm=batch", "probe=none", "dataset.augment=true"]
    ours, _ = engine_of("optim=clr_trust", *common)
    ours.optimizer.memory["losses"][:] = 1e9  # so that nothing is rejected
    plain, _ = engine_of("optim=clr", *common)
    ours.train(), plain.train()
    assert same(weights(ours), weights(plain))


def test_the_trial_sees_the_dropout_that_the_step_saw() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Linear(50, 3))
    objective = Objective(model)
    batch = Batch(torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2]))
    trial = objective.trial(batch)
    loss, _ = objective.backward(batch)
    before = torch.get_rng_state()
    assert trial(objective.theta).item() == loss.item()
    assert torch.equal(torch.get_rng_state(), before)


def test_multipliers_are_tried_as_they_are_taken() -> None:
    torch.manual_seed(0)
    objective = Objective(nn.Linear(4, 3))
    weight, bias = objective.theta
    groups = [{"params": [weight], "multiplier": 0.1}, {"params": [bias]}]
    optimizer = CLRTrust(groups)
    batch = Batch(torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2]))
    tried = []
    optimizer.look(objective, batch)
    loss_at = optimizer._loss_at
    optimizer._loss_at = lambda moved: (tried.append(moved), loss_at(moved))[1]
    loss, _ = objective.backward(batch)
    optimizer.step(lambda: loss)
    assert torch.equal(tried[-1][weight], weight)
    assert torch.equal(tried[-1][bias], bias)


def test_without_a_look_it_is_refused() -> None:
    p = nn.Parameter(torch.ones(1))
    p.grad = torch.ones(1)
    with pytest.raises(TypeError, match="look"):
        CLRTrust([p]).step(loss=1.0)
    assert CLR([p]).step(loss=1.0) == 1.0
