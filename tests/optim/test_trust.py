from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from corridor_exp.objective import Batch, Objective
from corridor_exp.optim import CLR, CLRTrust
from tests.conftest import ANY_BATCH, Surface, engine_of, mean, same, weights


def on_surface(E: Callable[[Tensor], Tensor], start: list[float]) -> tuple[Objective, CLRTrust]:
    objective = Objective(Surface(torch.tensor(start, dtype=torch.float64), E), loss=mean)
    return objective, CLRTrust(objective.theta)


def take_step(objective: Objective, optimizer: CLRTrust) -> tuple[float, float]:
    """The loss before the step, and the step."""
    optimizer.prepare(objective, ANY_BATCH)
    loss, _ = objective.backward(ANY_BATCH)
    optimizer.step(lambda: loss)
    return loss.item(), optimizer.param_groups[0]["lr"].item()


def test_halves_until_the_loss_is_below_the_reference() -> None:
    """On E = 1 + θ² the free step overshoots near the minimum; every step is CLR's times a power of ½, and the first
    lawful one by the rule as its docstring has it."""
    objective, optimizer = on_surface(lambda t: 1 + t.square().sum(), [0.4])
    losses, rejected, climbed = [], 0, 0
    for _ in range(12):
        theta = objective.theta[0].item()
        E, h = take_step(objective, optimizer)
        losses.append(E)
        reference = max(E, min(max(losses[-10:]), losses[0]))
        halvings = round(torch.tensor(E / (4 * theta**2) / h).log2().item())
        assert h == pytest.approx(E / (4 * theta**2) / 2**halvings, rel=1e-12)
        after = 1 + objective.theta[0].item() ** 2
        assert after <= reference - 0.1 * h * 4 * theta**2 + 1e-12
        if halvings:
            one_fewer = 1 + (theta - 2 * h * 2 * theta) ** 2
            assert one_fewer > reference - 0.1 * 2 * h * 4 * theta**2
        rejected += halvings
        climbed += after > E
    assert rejected > 0
    assert climbed > 0


def test_no_step_climbs_above_the_first_loss() -> None:
    objective, optimizer = on_surface(lambda t: 1 + t.square().sum(), [0.4])
    take_step(objective, optimizer)
    optimizer.memory["gaps"][:] = 50.0
    for _ in range(12):
        take_step(objective, optimizer)
        assert 1 + objective.theta[0].item() ** 2 <= 1.16


def test_where_no_halving_helps_there_is_no_step() -> None:
    """Against the direction of its gradient this loss only climbs: it is said to fall where it rises."""
    objective, optimizer = on_surface(lambda t: 2 + t.sum(), [0.0])
    optimizer.prepare(objective, ANY_BATCH)
    loss, _ = objective.backward(ANY_BATCH)
    objective.theta[0].grad.neg_()
    optimizer.step(lambda: loss)
    assert objective.theta[0].item() == 0.0
    assert optimizer.param_groups[0]["lr"].item() == 0.0


def test_where_nothing_is_rejected_it_is_clr_bit_for_bit() -> None:
    common = ["max_steps=20", "model.norm=batch", "probe=none", "dataset.augment=true"]
    ours, _ = engine_of("optim=clr_trust", *common)
    ours.optimizer.reference = lambda gap: gap + 1e9  # so that nothing is rejected
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
    optimizer.prepare(objective, batch)
    loss_at = optimizer._loss_at
    optimizer._loss_at = lambda moved: (tried.append(moved), loss_at(moved))[1]
    loss, _ = objective.backward(batch)
    optimizer.step(lambda: loss)
    assert torch.equal(tried[-1][weight], weight)
    assert torch.equal(tried[-1][bias], bias)


def test_unprepared_it_is_refused() -> None:
    p = nn.Parameter(torch.ones(1))
    p.grad = torch.ones(1)
    with pytest.raises(TypeError, match="prepare"):
        CLRTrust([p]).step(loss=1.0)
    assert CLR([p]).step(loss=1.0) == 1.0
