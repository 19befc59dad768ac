import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from corridor_exp import records
from corridor_exp.objective import Objective
from corridor_exp.probes import Corridor
from tests.conftest import ANY_BATCH, Surface, mean


def look(theta: Tensor, E: Callable[[Tensor], Tensor], h: float | None = None) -> dict[str, float]:
    probe = Corridor()
    seen = probe.look(Objective(Surface(theta, E), loss=mean), ANY_BATCH)
    return {key: value.item() for key, value in (seen | probe.at_step(h)).items()}


def random_point(seed: int, dimension: int = 4) -> Tensor:
    return torch.randn(dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", range(5))
def test_cones_are_corridors(seed: int, sign: int) -> None:
    seen = look(random_point(seed), lambda t: 10 + sign * 3 * t.norm())
    assert seen[records.HG_NORM] < 1e-10
    assert seen[records.CORRIDOR_INDEX] < 1e-10
    assert abs(seen[records.GRADIENT_CURVATURE]) < 1e-10


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_no_convex_quadratic_has_a_corridor_index_below_a_half(seed: int) -> None:
    B = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    A = B @ B.T
    assert look(random_point(seed + 1), lambda t: t @ A @ t / 2)[records.CORRIDOR_INDEX] >= 0.5 - 1e-9


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
def test_the_index_of_a_power_of_the_norm(p: float) -> None:
    assert look(random_point(3), lambda t: t.norm() ** p)[records.CORRIDOR_INDEX] == pytest.approx(
        (p - 1) / p, abs=1e-10
    )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), c=st.floats(1e-3, 1e3), s=st.floats(1e-2, 1e2))
def test_the_index_has_no_unit(seed: int, c: float, s: float) -> None:
    def E(t: Tensor) -> Tensor:
        return t.pow(4).sum() + t.norm()

    theta = random_point(seed)
    expected = look(theta, E)[records.CORRIDOR_INDEX]
    assert look(theta, lambda t: c * E(t))[records.CORRIDOR_INDEX] == pytest.approx(expected, rel=1e-9)
    assert look(theta * s, lambda t: E(t / s))[records.CORRIDOR_INDEX] == pytest.approx(expected, rel=1e-9)


def test_curvature_along_the_gradient_and_the_ratio_at_the_optimizers_step() -> None:
    A = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
    theta = torch.tensor([2.0, 1.0], dtype=torch.float64)
    seen = look(theta, lambda t: t @ A @ t / 2, h=0.1)
    g, hg = A @ theta, A @ A @ theta
    assert seen[records.HG_NORM] == pytest.approx(hg.norm().item())
    assert seen[records.GRADIENT_CURVATURE] == pytest.approx((g @ hg / (g @ g)).item())
    assert seen[records.HG_RATIO] == pytest.approx(0.1 * (hg.norm() / g.norm()).item())


def test_without_a_step_there_is_no_ratio() -> None:
    assert records.HG_RATIO not in look(random_point(0), lambda t: t.norm())


def test_tiny_losses_do_not_underflow() -> None:
    seen = look(random_point(2).float(), lambda t: 1e-16 * t.square().sum())
    assert math.isclose(seen[records.CORRIDOR_INDEX], 0.5, rel_tol=1e-5)
