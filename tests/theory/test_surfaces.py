import math

import pytest
import torch
from torch import Tensor

from corridor_exp.theory import surfaces


def ring(count: int, low: float, high: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    radius = low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)
    angle = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)


def test_hessian_gradient_is_the_dense_product() -> None:
    def E(theta: Tensor) -> Tensor:
        return (theta[..., 0] ** 3 * theta[..., 1]) + theta.square().sum(-1).exp()

    theta = ring(6, 0.2, 1.0)
    for point, hg in zip(theta, surfaces.hessian_gradient(E, theta), strict=True):
        H = torch.autograd.functional.hessian(E, point)
        torch.testing.assert_close(hg, H @ surfaces.gradient(E, point), rtol=1e-12, atol=1e-12)


def test_the_distance_to_a_circle_is_known() -> None:
    theta = ring(50, 0.3, 3.0)
    d = surfaces.signed_distance(surfaces.ellipse(1.0, 1.0), theta)
    torch.testing.assert_close(d, 1 - theta.norm(dim=-1), rtol=0, atol=1e-12)  # positive inside, on the left


def test_distances_to_a_wave_are_the_least_of_a_dense_search() -> None:
    curve = surfaces.wave(0.1, 2.0)
    theta = ring(30, 0.0, 0.7)
    dense = curve.position(torch.linspace(-2, 2, 400_001, dtype=torch.float64))
    expected = torch.stack([(dense - t).norm(dim=-1).min() for t in theta])
    torch.testing.assert_close(surfaces.signed_distance(curve, theta).abs(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("waves", [2, 5])
def test_wavy_cones_and_saddles_are_no_corridors(waves: int) -> None:
    theta = ring(50, 0.5, 2.0)
    assert surfaces.hessian_gradient(surfaces.wavy_cone(waves), theta).norm(dim=-1).max() > 0.1
    assert surfaces.hessian_gradient(surfaces.saddle, theta).norm(dim=-1).min() > 0.4


def test_the_surfaces_of_figure_1_have_piecewise_constant_slope() -> None:
    theta = ring(100, 1.1, 2.0)
    slope = surfaces.gradient(surfaces.fig1a(), theta).norm(dim=-1)
    torch.testing.assert_close(slope, torch.ones_like(slope), rtol=0, atol=1e-12)
    glued = surfaces.fig1b()
    theta = ring(400, 0.0, 0.7)
    theta = theta[glued.distance_to_seam(theta) > 1e-6]
    slope = surfaces.gradient(glued, theta).norm(dim=-1)
    nearest = (slope.unsqueeze(-1) - torch.tensor(glued.slopes, dtype=torch.float64)).abs().amin(-1)
    assert nearest.max() < 1e-12
    assert len(slope.round(decimals=6).unique()) == 4
