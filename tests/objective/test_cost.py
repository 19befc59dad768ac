"""The costs of evaluations against torch's own count of operations, and what an objective adds up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.cost import FORWARD, GRADIENT, HESSIAN_PRODUCT, in_gradients
from tests.conftest import mean, small_batch, small_network

EVALUATIONS: dict[str, tuple[Callable[[Objective, Batch], object], int]] = {
    "loss": (lambda objective, batch: objective.loss(batch), FORWARD),
    "trial": (lambda objective, batch: objective.trial(batch)(objective.theta), FORWARD),
    "gradient": (lambda objective, batch: objective.gradient(batch), GRADIENT),
    "backward": (lambda objective, batch: objective.backward(batch), GRADIENT),
    "gradient_and_hg": (lambda objective, batch: objective.gradient_and_hg(batch), HESSIAN_PRODUCT),
    "hessian_product": (lambda objective, batch: objective.hessian_product(batch, objective.theta), HESSIAN_PRODUCT),
}


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())


def linear() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh())


@pytest.mark.parametrize(("layer", "shape"), [(convolution, (2, 3, 6, 6)), (linear, (2, 6))])
@pytest.mark.parametrize("name", EVALUATIONS)
def test_a_further_layer_costs_what_the_count_of_operations_says(
    name: str, layer: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    """The first layer needs no gradient of its input, so it is left out: 4 layers less 3."""
    evaluate, passes = EVALUATIONS[name]

    def operations(evaluate: Callable[[Objective, Batch], object]) -> int:
        counts = []
        for layers in (3, 4):
            objective = Objective(nn.Sequential(*(layer() for _ in range(layers))), loss=mean)
            with FlopCounterMode(display=False) as counter:
                evaluate(objective, Batch(torch.randn(shape), torch.zeros(2)))
            counts.append(counter.get_total_flops())
        return counts[1] - counts[0]

    assert operations(evaluate) == passes * operations(EVALUATIONS["loss"][0]) > 0


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_objective_adds_up_what_it_evaluates(name: str) -> None:
    evaluate, passes = EVALUATIONS[name]
    objective, batch = Objective(small_network()), small_batch()
    for count in (1, 2):
        evaluate(objective, batch)
        assert objective.passes == count * passes


def test_a_batch_in_parts_costs_one_gradient_more_for_hg_and_testing_costs_nothing() -> None:
    objective, batch = Objective(small_network(), micro_batch=5), small_batch(12)
    objective.gradient_and_hg(batch)
    objective.evaluate(batch)
    assert objective.passes == GRADIENT + HESSIAN_PRODUCT
    assert in_gradients(objective.passes) == 4


def test_a_refused_trial_is_paid_for() -> None:
    objective, batch = Objective(small_network()), small_batch()
    trial = objective.trial(batch)
    assert objective.passes == 0

    def along(h: float) -> list[Tensor]:
        return [p.detach() - h for p in objective.theta]

    assert all(trial(along(h)).isfinite() for h in (1.0, 0.5, 0.25))
    assert in_gradients(objective.passes) == 1
