import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from momo import Momo
from torch import Tensor, nn

from corridor_exp.optim import DecSPS, Descent, HazanKakade, Polyak, SPSMax

FLOAT = {"dtype": torch.float64}


def least_squares(seed: int = 0, rows: int = 8, size: int = 5) -> tuple[Callable[[Tensor], Tensor], Tensor, float]:
    """A convex E that does not reach 0, a start, and its minimum."""
    generator = torch.Generator().manual_seed(seed)
    A, b = torch.randn(rows, size, generator=generator, **FLOAT), torch.randn(rows, generator=generator, **FLOAT)
    best = torch.linalg.lstsq(A, b).solution
    return (lambda t: (A @ t - b).square().mean()), torch.randn(size, generator=generator, **FLOAT), E_at(A, b, best)


def E_at(A: Tensor, b: Tensor, t: Tensor) -> float:
    return (A @ t - b).square().mean().item()


def descend(optimizer: Descent, p: nn.Parameter, E: Callable[[Tensor], Tensor]) -> float:
    """One step; returns the loss before it."""
    optimizer.zero_grad()
    loss = E(p)
    loss.backward()
    optimizer.step(lambda: loss)
    return loss.item()


def test_polyak_with_the_known_minimum_converges_where_the_bound_zero_does_not() -> None:
    E, start, minimum = least_squares()
    gaps = []
    for bound in (minimum, 0.0):
        p = nn.Parameter(start.clone())
        optimizer = Polyak([p], f_star=bound)
        for _ in range(300):
            descend(optimizer, p, E)
        gaps.append(E(p).item() - minimum)
    assert gaps[0] < 1e-10
    assert gaps[1] > 0.01


@pytest.mark.parametrize("cap", [0.05, 1e6])
def test_sps_max_is_momo_without_averaging(cap: float) -> None:
    """Lockstep with the MoMo authors' package at β = 0, with and without the cap binding."""
    E, start, _ = least_squares()
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours, momo = SPSMax([mine], step_cap=cap), Momo([theirs], lr=cap, beta=0.0)
    capped = []
    for _ in range(20):
        with torch.no_grad():
            theirs.copy_(mine)
        loss = E(theirs)
        theirs.grad = None
        loss.backward()
        momo.step(loss=loss)
        descend(ours, mine, E)
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)
        capped.append(ours.param_groups[0]["lr"].item() == cap)
    assert any(capped) == (cap < 1)


def test_sps_max_divides_by_c_and_subtracts_the_bound() -> None:
    p = nn.Parameter(torch.tensor([3.0], **FLOAT))
    optimizer = SPSMax([p], c=2.0, step_cap=None, f_star=1.0)
    loss = descend(optimizer, p, lambda t: t.square().sum())
    assert optimizer.param_groups[0]["lr"].item() == pytest.approx((loss - 1) / (2 * 36))


def test_smooth_sps_grows_by_no_more_than_a_factor_of_two_an_epoch() -> None:
    """γ_k = 2^{B/N} h_{k−1}, transcribed; both branches of the minimum occur."""
    p = nn.Parameter(torch.tensor([1.0, 2.0], **FLOAT))
    optimizer = SPSMax([p], step_cap=None, smooth=True, initial_step=0.05, steps_per_epoch=5)
    weights, before, bound = torch.tensor([1.0, 4.0], **FLOAT), 0.05, []
    for _ in range(30):
        g = weights * p.detach()
        free = ((weights * p.detach().square()).sum() / 2 / g.square().sum()).item()
        descend(optimizer, p, lambda t: (weights * t.square()).sum() / 2)
        h = optimizer.param_groups[0]["lr"].item()
        assert h == pytest.approx(min(free, 2 ** (1 / 5) * before), rel=1e-12)
        bound.append(h < free)
        before = h
    assert any(bound)
    assert not all(bound)


@pytest.mark.parametrize("make", [lambda p: SPSMax(p, smooth=True), lambda p: DecSPS(p)], ids=["sps", "decsps"])
@pytest.mark.parametrize(("loss", "gradient"), [(1.0, 0.0), (0.0, 1.0), (1.0, math.nan)])
def test_a_step_of_zero_is_not_remembered(make: Callable[..., Descent], loss: float, gradient: float) -> None:
    p = nn.Parameter(torch.tensor([1.0], **FLOAT))
    optimizer = make([p])
    p.grad = torch.tensor([gradient], **FLOAT)
    optimizer.step(loss=loss)
    assert p.item() == 1.0
    p.grad = torch.tensor([1.0], **FLOAT)
    optimizer.step(loss=0.5)
    assert p.item() == pytest.approx(0.5)


def test_decsps_is_its_formula_and_never_lengthens_its_step() -> None:
    """Eq. 5 in numpy, on sampled batches of a least-squares problem; both branches of the minimum occur."""
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(40, 4)), rng.normal(size=40)
    p, theta = nn.Parameter(torch.zeros(4, **FLOAT)), np.zeros(4)
    optimizer = DecSPS([p], c=0.8, initial_step=2.0)
    bound, steps, chosen = 0.8 * 2.0, [], []
    for k in range(60):
        rows = rng.choice(40, 5, replace=False)
        residual = A[rows] @ theta - b[rows]
        g, ck = 2 * A[rows].T @ residual / 5, 0.8 * math.sqrt(k + 1)
        free = (residual**2).mean() / (g @ g)
        h = min(free, bound) / ck
        chosen.append(free < bound)
        theta, bound = theta - h * g, ck * h
        At, bt = torch.as_tensor(A[rows]), torch.as_tensor(b[rows])
        descend(optimizer, p, lambda t, At=At, bt=bt: (At @ t - bt).square().mean())
        np.testing.assert_allclose(p.detach().numpy(), theta, rtol=1e-10, atol=1e-12)
        steps.append(h)
    assert all(later <= earlier for earlier, later in pairwise(steps))
    assert any(chosen)
    assert not all(chosen)


def test_decsps_finds_the_minimum_without_interpolation_and_sps_max_only_its_neighbourhood() -> None:
    rng = np.random.default_rng(1)
    A, b = torch.as_tensor(rng.normal(size=(30, 3))), torch.as_tensor(rng.normal(size=30))
    best = torch.linalg.lstsq(A, b[:, None]).solution[:, 0]
    distances = []
    for make in (lambda p: DecSPS(p), lambda p: SPSMax(p)):
        p, draws = nn.Parameter(torch.zeros(3, **FLOAT)), np.random.default_rng(2)
        optimizer = make([p])
        tail = []
        for k in range(4000):
            row = draws.integers(30, size=3)
            descend(optimizer, p, lambda t, row=row: (A[row] @ t - b[row]).square().mean())
            if k >= 3500:
                tail.append((p.detach() - best).norm().item())
        distances.append(sum(tail) / len(tail))
    assert distances[0] < 0.1 * distances[1]


def test_hazan_kakade_with_bound_zero_takes_half_of_clrs_step() -> None:
    p = nn.Parameter(torch.tensor([4.0], **FLOAT))
    optimizer = HazanKakade([p])
    descend(optimizer, p, lambda t: t.square().sum() / 2)
    assert optimizer.param_groups[0]["lr"].item() == pytest.approx(0.25)


def test_the_adaptive_bound_is_their_algorithm_2() -> None:
    E, start, _ = least_squares()
    p = nn.Parameter(start.clone())
    optimizer = HazanKakade([p], adaptive=True, horizon=8)
    theta, bound, best = start.clone(), 0.0, math.inf
    for k in range(80):
        point = theta.clone().requires_grad_()
        loss = E(point)
        (g,) = torch.autograd.grad(loss, point)
        best = min(best, loss.item())
        theta = theta - max(loss.item() - bound, 0) / (2 * g.square().sum()) * g
        assert descend(optimizer, p, E) == pytest.approx(loss.item(), rel=1e-9)
        if (k + 1) % 8 == 0:
            bound, best, theta = (best + bound) / 2, math.inf, start.clone()
            assert torch.equal(p.detach(), start)
            assert optimizer.memory["bound"].item() == pytest.approx(bound, rel=1e-9)


def test_the_adaptive_bound_closes_in_on_the_unknown_minimum_and_the_best_point_is_kept() -> None:
    E, start, minimum = least_squares()
    p = nn.Parameter(start.clone())
    optimizer = HazanKakade([p], adaptive=True, horizon=200)
    seen = [descend(optimizer, p, E) for _ in range(2000)]
    assert optimizer.memory["bound"].item() == pytest.approx(minimum, abs=1e-3)
    assert E(start).item() > 2 * minimum
    last = p.detach().clone()
    with optimizer.evaluation_weights():
        assert E(p).item() == pytest.approx(min(seen), rel=1e-12)
    assert torch.equal(p, last)
    assert min(seen) - minimum < 1e-4


def test_impossible_settings_are_refused() -> None:
    p = nn.Parameter(torch.zeros(1))
    for make in (
        lambda: SPSMax([p], c=0.0),
        lambda: SPSMax([p], step_cap=0.0),
        lambda: DecSPS([p], initial_step=0.0),
        lambda: HazanKakade([p], adaptive=True, horizon=0),
    ):
        with pytest.raises(ValueError, match="positive"):
            make()
