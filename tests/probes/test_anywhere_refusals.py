"""What `look` cannot measure, and how it says so."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from corridor_exp import look
from corridor_exp.errors import RunError
from corridor_exp.runs import records
from corridor_exp.theory.vectors import flat
from tests.conftest import Surface, mean, small_batch, small_network
from tests.probes.test_anywhere import ALWAYS, CROSS_ENTROPY, SECANT, TANGENT, THETA, on_surface


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * 2


def test_without_second_derivatives_the_secants_are_measured() -> None:
    seen = on_surface(lambda t: Once.apply(t).square().sum(), sharpness=True)
    missing = TANGENT | {records.SHARPNESS}
    assert {name for name, value in seen.items() if value is None} == set(seen.why) == missing
    assert all("no second derivatives" in seen.why[name] for name in missing)
    assert seen[records.SECANT_CORRIDOR_INDEX] == pytest.approx(0.5)
    model, x, y = Surface(THETA, lambda t: Once.apply(t).square().sum()), [torch.zeros(1, 1)] * 2, [torch.zeros(1)] * 2
    seen = look(model, mean, x, y, noise=True)
    assert "no second derivatives" in seen.why[records.BATCH_SHARPNESS]
    assert seen[records.GROWTH_RATIO] == pytest.approx(1)


@pytest.mark.parametrize(
    ("E", "names", "why"),
    [
        (lambda t: t.sum() / 0, TANGENT | SECANT - {records.PROBE_VERSION} | ALWAYS, "not finite"),
        (lambda t: (t - t.detach()).square().sum() + 1, TANGENT | SECANT - {records.PROBE_VERSION}, "gradient is 0"),
        (
            lambda t: t.square().sum() - 20,
            {records.CORRIDOR_INDEX, records.SECANT_COSINE} | SECANT - {records.PROBE_VERSION},
            "not positive.*lower bound",
        ),
        (lambda t: 1e-16 * t.square().sum(), {records.DECREASE_RATIO}, "rounding errors"),
    ],
)
def test_none_comes_with_a_reason(E: Callable[[Tensor], Tensor], names: set[str], why: str) -> None:
    seen = on_surface(E)
    assert {name for name, value in seen.items() if value is None} == set(seen.why) == names
    assert all(re.search(why, reason) for reason in seen.why.values())
    assert all(value is None or math.isfinite(value) for value in seen.values())


def test_noise_that_hides_the_gradient_says_so() -> None:
    model, x = small_network(), small_batch(12).x
    opposite = [torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)]
    seen = look(model, CROSS_ENTROPY, [x[:4], x[:4]], opposite, noise=True)
    assert seen[records.FULL_GRAD_NORM_SQ] < 0
    assert seen[records.GROWTH_RATIO] is None
    assert "more batches" in seen.why[records.NOISE_SCALE]


def test_a_batch_without_a_finite_gradient_is_not_called_noise() -> None:
    model, x = small_network(), small_batch(12).x
    seen = look(model, CROSS_ENTROPY, [x[:4], x[4:8] * math.nan], [Y[:4], Y[4:8]], noise=True)
    assert seen[records.GROWTH_RATIO] is None
    assert {seen.why[name] for name in (records.GROWTH_RATIO, records.NOISE_SCALE, records.BATCH_GRAD_NORM_SQ)} == {
        "the gradient of a batch is not finite"
    }


def frozen() -> nn.Module:
    return small_network().requires_grad_(False)


X, Y = small_batch()
SUM, EACH = nn.CrossEntropyLoss(reduction="sum"), nn.CrossEntropyLoss(reduction="none")


@pytest.mark.parametrize(
    ("model", "loss_fn", "x", "y", "options", "words"),
    [
        (small_network(), EACH, X, Y, {}, r"scalar.*shape \(12,\).*mean"),
        (small_network(), lambda outputs, y: 1.0, X, Y, {}, "returns float"),
        (small_network(), SUM, [X, X], [Y, Y], {}, "reduction='mean'"),
        (frozen(), CROSS_ENTROPY, X, Y, {}, "no parameter.*requires a gradient"),
        (small_network().bfloat16(), CROSS_ENTROPY, X, Y, {}, r"bfloat16.*float\(\)"),
        (small_network(), CROSS_ENTROPY, [X, X], [Y], {}, "two lists of as many batches"),
        (small_network(), CROSS_ENTROPY, [X], Y, {}, "two lists"),
        (small_network(), CROSS_ENTROPY, [], [], {}, "two lists"),
        (small_network(), CROSS_ENTROPY, X, Y, {"noise": True}, "at least two batches"),
        (small_network(), CROSS_ENTROPY, [X, X[:4]], [Y, Y[:4]], {"noise": True}, "smaller last"),
        (small_network(), CROSS_ENTROPY, None, Y, {}, "no number of images"),
        (small_network(), CROSS_ENTROPY, X.sum(), Y, {}, "no number of images"),
        (small_network(), CROSS_ENTROPY, X[:0], Y[:0], {}, "empty"),
        (small_network(), lambda outputs, y: CROSS_ENTROPY(outputs.detach(), y), X, Y, {}, "detached"),
    ],
)
def test_what_cannot_be_measured_at_all_is_refused_with_the_cure(model, loss_fn, x, y, options, words: str) -> None:
    with pytest.raises(RunError, match=words):
        look(model, loss_fn, x, y, **options)


def test_part_of_a_model_may_be_frozen() -> None:
    model, (x, y) = small_network(), small_batch()
    model[0].requires_grad_(False)
    head = dict(model.named_parameters())
    seen = look(model, CROSS_ENTROPY, x, y)
    expected = torch.autograd.grad(CROSS_ENTROPY(model(x), y), [head["4.weight"], head["4.bias"]])
    assert seen[records.TRAIN_GRAD_NORM] == pytest.approx(flat(expected).norm().item(), rel=1e-12)
