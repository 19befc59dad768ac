import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from corridor_exp.cli.atlas import main as atlas
from corridor_exp.models import resnet18
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import DataShape as ImageFacts
from corridor_exp.probes import Corridor
from corridor_exp.runs import records
from corridor_exp.theory.vectors import inner, norm
from tests.conftest import ANY_BATCH, Surface, mean, small_batch, small_network


def look(theta: Tensor, E: Callable[[Tensor], Tensor], h: float | None = None) -> dict[str, float]:
    probe = Corridor(layers=False)
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


# ------------------------------------------------------------------------ over CLR's step


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), above=st.floats(0, 10))
def test_a_perfect_corridor_is_told_so_even_where_it_ends_at_its_apex(seed: int, above: float) -> None:
    """E = 3‖θ‖ − c for 0 ≤ c < 3‖θ‖. With c = 0 CLR's step ends at the apex, where there is no gradient."""
    theta = random_point(seed)
    c = 3 * theta.norm().item() * above / (1 + above)
    seen = look(theta, lambda t: 3 * t.norm() - c)
    assert seen[records.CLR_STEP] == pytest.approx(theta.norm().item() / 3 - c / 9, rel=1e-10)
    assert seen[records.CORRIDOR_INDEX] < 1e-10
    assert seen[records.SECANT_HG_NORM] < 1e-9
    assert seen[records.SECANT_CORRIDOR_INDEX] < 1e-10
    assert seen[records.GRADIENT_ALIGNMENT] == pytest.approx(1, abs=1e-10)
    assert seen[records.DECREASE_RATIO] == pytest.approx(1, abs=1e-10)


def test_a_cone_is_told_to_be_a_corridor_by_corridor_train_and_the_atlas(digits_run, capsys) -> None:
    cone = ["model._target_=tests.plugins.cone", "loss=tests.plugins.mean_output", "allow_targets=[tests.plugins]"]
    assert digits_run(*cone, "optim=sgd", "optim.lr=0.5", "max_steps=5", "probe.every=1", "out_dir=run") == 0
    seen = list(records.read_records(Path("run")))
    assert [r[records.TRAIN_LOSS] for r in seen] == pytest.approx([14**0.5 - 0.5 * k for k in range(5)], rel=1e-6)
    for name, value in [
        *((records.CORRIDOR_INDEX, 0), (records.SECANT_CORRIDOR_INDEX, 0)),
        *((records.GRADIENT_ALIGNMENT, 1), (records.DECREASE_RATIO, 1)),
    ]:
        assert [r[name] for r in seen] == pytest.approx([value] * 5, abs=1e-5)
    capsys.readouterr()
    atlas(["run"])
    assert capsys.readouterr().out.count("(100%)") == 20  # in each of the five tenths that have a look, all four


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_a_convex_quadratic_is_never_taken_for_a_corridor(seed: int) -> None:
    """On a quadratic the secant equals the tangent, g − g(θ − ½hg) = ½hHg, and the midpoint rule is exact."""
    B = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    A = B @ B.T
    seen = look(random_point(seed + 1), lambda t: t @ A @ t / 2)
    assert seen[records.SECANT_CORRIDOR_INDEX] >= 0.5 - 1e-9
    assert seen[records.GRADIENT_ALIGNMENT] <= 0.75 + 1e-9
    assert seen[records.DECREASE_RATIO] <= 0.75 + 1e-9
    assert seen[records.SECANT_HG_NORM] == pytest.approx(seen[records.HG_NORM], rel=1e-7)
    assert seen[records.SECANT_CORRIDOR_INDEX] == pytest.approx(seen[records.CORRIDOR_INDEX], rel=1e-7)
    assert seen[records.SECANT_COSINE] == pytest.approx(1, abs=1e-9)
    assert seen[records.DECREASE_RATIO] == pytest.approx(seen[records.GRADIENT_ALIGNMENT], abs=1e-9)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
def test_the_secants_of_a_power_of_the_norm(p: float) -> None:
    seen = look(random_point(3), lambda t: t.norm() ** p)
    aligned = (1 - 1 / (2 * p)) ** (p - 1)
    assert seen[records.SECANT_CORRIDOR_INDEX] == pytest.approx(2 * (1 - aligned), abs=1e-10)
    assert seen[records.GRADIENT_ALIGNMENT] == pytest.approx(aligned, abs=1e-10)
    assert seen[records.DECREASE_RATIO] == pytest.approx(1 - (1 - 1 / p) ** p, abs=1e-10)


def test_the_secants_of_an_exponential_tail() -> None:
    seen = look(torch.tensor([2.0], dtype=torch.float64), lambda t: torch.exp(-t.sum()))
    assert seen[records.CORRIDOR_INDEX] == pytest.approx(1)
    assert seen[records.SECANT_CORRIDOR_INDEX] == pytest.approx(2 * (1 - math.exp(-0.5)))
    assert seen[records.DECREASE_RATIO] == pytest.approx(1 - math.exp(-1))


def test_the_decrease_ratio_is_the_alignment_to_second_order_in_the_step() -> None:
    """For E + c the step of CLR can have any length. The error of the midpoint rule is of order h²."""

    def error(h: float) -> float:
        theta = random_point(7)
        raw = theta.clone().requires_grad_()
        (g,) = torch.autograd.grad(raw.pow(4).sum() + raw.prod(), raw)
        c = (h * g.square().sum() - theta.pow(4).sum() - theta.prod()).item()
        seen = look(theta, lambda t: t.pow(4).sum() + t.prod() + c)
        assert seen[records.CLR_STEP] == pytest.approx(h)
        return abs(seen[records.DECREASE_RATIO] - seen[records.GRADIENT_ALIGNMENT])

    assert math.log2(error(0.002) / error(0.001)) == pytest.approx(2, abs=0.1)


def test_a_look_says_which_secants_it_has() -> None:
    assert look(random_point(0), lambda t: t.norm())[records.PROBE_VERSION] == records.MIDPOINT_VERSION


def test_where_rounding_drowns_the_decrease_there_is_no_answer() -> None:
    seen = look(random_point(2).float(), lambda t: 1e-6 * t.square().sum())
    assert math.isnan(seen[records.DECREASE_RATIO])
    assert seen[records.GRADIENT_ALIGNMENT] == pytest.approx(
        0.75, rel=1e-6
    )  # not affected by rounding of E: θ − ½hg = ¾θ
    assert not math.isnan(look(random_point(2), lambda t: 1e-6 * t.square().sum())[records.DECREASE_RATIO])


def test_layers_add_up_and_are_those_of_the_dense_hessian() -> None:
    model, batch = small_network("batch"), small_batch()
    objective = Objective(model)
    seen = Corridor().look(objective, batch)
    layers = {k: v.item() for k, v in seen.items() if k.startswith(records.LAYER_HG_NORM)}
    assert set(layers) == {records.LAYER_HG_NORM + name for name in ("0", "1", "4")}
    assert math.hypot(*layers.values()) == pytest.approx(seen[records.HG_NORM].item(), rel=1e-12)
    _, _, hg = objective.gradient_and_hg(batch)
    assert layers[records.LAYER_HG_NORM + "4"] == pytest.approx(norm(hg[-2:]).item(), rel=1e-12)
    assert not any(k.startswith(records.LAYER_HG_NORM) for k in Corridor(layers=False).look(objective, batch))


# ------------------------------------------------------------------------------- oracles


def test_hg_is_that_of_curvlinops() -> None:
    from curvlinops import HessianLinearOperator

    model, batch = small_network(), small_batch()
    params = list(model.parameters())
    _, g, hg = Objective(model, micro_batch=5).gradient_and_hg(batch)
    H = HessianLinearOperator(model, nn.CrossEntropyLoss(), params, [(batch.x, batch.y)])
    for mine, theirs in zip(hg, H @ list(g), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def secant_over(model: nn.Module, batch: Batch, length: float) -> tuple[float, float, float]:
    """‖Hg‖, ‖g(θ) − g(θ − εĝ)‖‖g‖/ε at ε = length, and their cosine."""
    objective = Objective(model)
    _, g, hg = objective.gradient_and_hg(batch)
    moved = [p - length / norm(g) * t for p, t in zip(objective.theta, g, strict=True)]
    _, g_moved = objective.gradient(batch, moved)
    change = [(a - b) * norm(g) / length for a, b in zip(g, g_moved, strict=True)]
    return norm(hg).item(), norm(change).item(), (inner(change, hg) / norm(change) / norm(hg)).item()


def test_finite_differences_agree_on_smooth_activations() -> None:
    tangent, secant, cosine = secant_over(small_network("batch"), small_batch(), 1e-6)
    assert secant == pytest.approx(tangent, rel=1e-4)
    assert cosine == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_autodiff_does_not_see_the_kinks_of_relu() -> None:
    """ResNet-18 at its initialisation, 16 images, float64: the comparison in docs/measuring.md, at one ε."""
    gap = {}
    for activation in ("relu", "silu"):
        torch.manual_seed(0)
        model = resnet18(ImageFacts(3, 32, 10, "small"), activation=activation, init="kaiming").double()
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(16, 3, 32, 32, generator=generator, dtype=torch.float64)
        batch = Batch(x, torch.randint(0, 10, (16,), generator=generator))
        tangent, secant, _ = secant_over(model, batch, 0.01)
        gap[activation] = secant / tangent
    assert gap["relu"] > 3
    assert gap["silu"] == pytest.approx(1, abs=0.1)


# -------------------------------------------------------------- on other images, and refusals
