"""The noise of the gradient, on images whose gradients are known one by one."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from corridor_exp import datasets
from corridor_exp.errors import RunError
from corridor_exp.models import mlp
from corridor_exp.objective import Batch, Objective
from corridor_exp.probes import Noise
from corridor_exp.probes.noise import between
from corridor_exp.runs import records
from corridor_exp.theory import noise
from corridor_exp.theory.vectors import flat
from tests.conftest import mean, small_batch, small_network

THETA = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
N = 6


class Quadratics(nn.Module):
    """An image is its number i; its loss is ½θᵀA_iθ − b_iᵀθ, so that g_i = A_iθ − b_i and H_i = A_i."""

    def __init__(self, shift: float = 2.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        roots = torch.randn(N, 3, 3, generator=generator, dtype=torch.float64)
        self.A = roots @ roots.mT
        self.b = torch.randn(N, 3, generator=generator, dtype=torch.float64) + shift
        self.theta = nn.Parameter(THETA.clone())

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("p,ipq,q->i", self.theta, self.A[x], self.theta) / 2 - self.b[x] @ self.theta

    def gradients(self) -> Tensor:
        """g_i by image, of shape (N, 3)."""
        return self.A @ THETA - self.b


def seen_between(batches: list[tuple[int, ...]], pool: float) -> dict[str, float]:
    model = Quadratics()
    looks = between(
        Objective(model, loss=mean), [Batch(torch.tensor(b), torch.zeros(len(b))) for b in batches], pool, hessian=True
    )
    return {key: value.item() for key, value in looks.items()}


def test_on_quadratics_all_is_known() -> None:
    g, A = Quadratics().gradients(), Quadratics().A
    batches = [(0, 1), (2, 3), (4, 5)]
    g_B = torch.stack([g[list(b)].mean(0) for b in batches])
    curvature = sum(v @ A[list(b)].mean(0) @ v for v, b in zip(g_B, batches, strict=True)) / 3
    square, full = g_B.square().sum(1).mean(), g.mean(0).square().sum()
    spread = (g_B - g_B.mean(0)).square().sum() / 2
    seen = seen_between(batches, N)
    assert seen[records.BATCH_GRAD_NORM_SQ] == pytest.approx(square.item(), rel=1e-12)
    assert seen[records.FULL_GRAD_NORM_SQ] == pytest.approx(full.item(), rel=1e-12)  # the batches are all images
    assert seen[records.GROWTH_RATIO] == pytest.approx((square / full).item(), rel=1e-12)
    assert seen[records.NOISE_SCALE] == pytest.approx((2 * spread / full).item(), rel=1e-12)
    assert seen[records.BATCH_SHARPNESS] == pytest.approx((curvature / square).item(), rel=1e-12)


def average(draws: list[list[tuple[int, ...]]], pool: float) -> tuple[float, float, float]:
    """The mean over all draws of what estimates E‖g_B‖², ‖g‖² and tr Σ."""
    g, totals = Quadratics().gradients(), torch.zeros(3, dtype=torch.float64)
    for batches in draws:
        g_B = torch.stack([g[list(b)].mean(0) for b in batches])
        square, of_mean, count, images = (
            g_B.square().sum(1).mean(),
            g_B.mean(0).square().sum(),
            *map(len, (g_B, batches[0])),
        )
        spread = noise.spread(square, of_mean, count)
        totals += torch.stack([square, noise.squared_gradient(of_mean, spread, count, images, pool), images * spread])
    return tuple((totals / len(draws)).tolist())


def test_the_estimates_have_no_bias_over_every_way_to_draw_disjoint_batches() -> None:
    """Two batches of two out of six images, exactly: all 360 orders."""
    draws = [[order[:2], order[2:]] for order in itertools.permutations(range(N), 4)]
    square, full, trace = average(draws, N)
    g = Quadratics().gradients()
    assert full == pytest.approx(g.mean(0).square().sum().item(), rel=1e-12)
    assert trace == pytest.approx((g - g.mean(0)).square().sum().item() / (N - 1), rel=1e-12)
    pairs = torch.stack([(g[i] + g[j]) / 2 for i, j in itertools.combinations(range(N), 2)])
    assert square == pytest.approx(pairs.square().sum(1).mean().item(), rel=1e-12)


def test_the_estimates_have_no_bias_over_every_way_to_draw_images_independently() -> None:
    draws = [[order[:2], order[2:]] for order in itertools.product(range(N), repeat=4)]
    square, full, trace = average(draws, math.inf)
    g = Quadratics().gradients()
    assert full == pytest.approx(g.mean(0).square().sum().item(), rel=1e-12)
    variance = (g - g.mean(0)).square().sum().item() / N
    assert trace == pytest.approx(variance, rel=1e-12)
    assert square == pytest.approx(full + variance / 2, rel=1e-12)


def test_they_are_those_of_mccandlish_and_others_from_a_small_and_a_big_batch() -> None:
    """Their Appendix A.1: |G|² = (B_big|G_big|² − B_small|G_small|²)/(B_big − B_small), and S."""
    small, big, count, square, of_mean = 4, 20, 5, torch.tensor(7.0), torch.tensor(2.5)
    squared = (big * of_mean - small * square) / (big - small)
    trace = (square - of_mean) / (1 / small - 1 / big)
    spread = noise.spread(square, of_mean, count)
    full = noise.squared_gradient(of_mean, spread, count, small, math.inf)
    assert full.item() == pytest.approx(squared.item())
    assert noise.noise_scale(spread, full, small).item() == pytest.approx((trace / squared).item())


def test_on_a_network_it_is_what_dense_hessians_and_gradients_of_single_images_say() -> None:
    model, (x, y) = small_network(), small_batch(12)
    names = [name for name, _ in model.named_parameters()]
    theta = [p.detach() for p in model.parameters()]

    def E(point: Tensor, part: slice) -> Tensor:
        parts = [t.view_as(p) for t, p in zip(point.split([p.numel() for p in theta]), theta, strict=True)]
        return F.cross_entropy(functional_call(model, dict(zip(names, parts, strict=True)), (x[part],)), y[part])

    def gradient(part: slice) -> Tensor:
        return torch.autograd.functional.jacobian(lambda t: E(t, part), flat(theta))

    parts = [slice(i, i + 4) for i in (0, 4, 8)]
    g_B = [gradient(part) for part in parts]
    H_B = [torch.autograd.functional.hessian(lambda t, part=part: E(t, part), flat(theta)) for part in parts]
    expected = sum(g @ H @ g for g, H in zip(g_B, H_B, strict=True)) / sum(g @ g for g in g_B)
    seen = between(Objective(model, micro_batch=3), [Batch(x[p], y[p]) for p in parts], 12, hessian=True)
    assert seen[records.BATCH_SHARPNESS].item() == pytest.approx(expected.item(), rel=1e-9)

    singles = [slice(i, i + 1) for i in range(12)]
    g = torch.stack([gradient(part) for part in singles])
    expected = torch.cov(g.T).trace() / g.mean(0).square().sum()
    seen = between(Objective(model), [Batch(x[p], y[p]) for p in singles], 12, hessian=False)
    assert seen[records.NOISE_SCALE].item() == pytest.approx(expected.item(), rel=1e-9)
    assert records.BATCH_SHARPNESS not in seen


def test_without_noise_the_growth_ratio_is_one() -> None:
    seen = seen_between([(0, 1), (0, 1), (0, 1)], math.inf)
    assert seen[records.GROWTH_RATIO] == pytest.approx(1)
    assert seen[records.NOISE_SCALE] == pytest.approx(0, abs=1e-12)


def test_where_the_noise_hides_the_gradient_the_ratios_are_null() -> None:
    g = Quadratics().gradients()
    opposite = noise.spread(g.square().sum(1).mean(), torch.tensor(0.0, dtype=torch.float64), 2)
    full = noise.squared_gradient(torch.tensor(0.0, dtype=torch.float64), opposite, 2, 1, math.inf)
    assert full < 0
    assert noise.growth_ratio(g.square().sum(), full).isnan()
    assert noise.noise_scale(opposite, full, 1).isnan()


def test_each_batch_has_dropout_masks_of_its_own_and_none_is_used_up() -> None:
    """Equal batches differ by their masks alone. The first has those that training draws next."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 40), nn.Dropout(0.5), nn.Linear(40, 3)).double()
    batch, objective = small_batch(), Objective(model)
    for at in (objective, objective.as_before(objective.before(), small_batch(), torch.tensor(1.0))):
        state = torch.get_rng_state()
        seen = between(at, [batch] * 200, math.inf, hessian=False)
        assert torch.equal(torch.get_rng_state(), state)
        drawn = []
        for _ in range(400):
            objective.backward(batch)
            drawn.append(flat(tuple(p.grad for p in model.parameters())))
        torch.set_rng_state(state)
        expected = torch.stack(drawn)
        ratio = expected.square().sum(1).mean() / expected.mean(0).square().sum()
        assert ratio > 1.2
        assert seen[records.GROWTH_RATIO].item() == pytest.approx(ratio.item(), rel=0.1)


# ------------------------------------------------------------------------------- the probe


def noise_of_digits(seed: int = 0, **options) -> tuple[Noise, Objective]:
    dataset = datasets.digits(train_size=100, device=torch.device("cpu"), seed=seed)
    torch.manual_seed(0)
    model = mlp(dataset.shape, width=8)
    return Noise(**{"batches": 4, **options}, dataset=dataset, batch_size=15), Objective(model)


def test_its_batches_follow_from_the_seed_alone() -> None:
    probe, objective = noise_of_digits()
    first = probe.look(objective, None)
    torch.manual_seed(99)
    again, _ = noise_of_digits()
    assert first == again.look(objective, None) == probe.look(objective, None)
    assert first != noise_of_digits(seed=1)[0].look(objective, None)


def test_it_takes_whole_batches_only() -> None:
    """Of 100 images in batches of 15 the seventh is short."""
    assert len(list(noise_of_digits(batches=50)[0]._batches())) == 6


@pytest.mark.parametrize(("options", "images"), [({"batches": 1}, 15), ({}, 60), ({}, 100)])
def test_one_batch_has_no_noise_and_is_refused(options: dict[str, int], images: int) -> None:
    dataset = datasets.digits(train_size=100, device=torch.device("cpu"), seed=0)
    with pytest.raises(RunError, match=r"at least two batches.*batch_size"):
        Noise(**options, dataset=dataset, batch_size=images)
