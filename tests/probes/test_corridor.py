import math
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from corridor_exp import datasets
from corridor_exp.errors import RunError
from corridor_exp.models import mlp, resnet18
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import DataShape as ImageFacts
from corridor_exp.probes import Corridor, Probe, Sharpness
from corridor_exp.runs import records
from corridor_exp.theory.vectors import inner, norm
from tests.conftest import ANY_BATCH, Surface, engine_of, mean, small_batch, small_network


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


def test_on_the_whole_training_set_hg_is_that_of_its_mean_loss() -> None:
    dataset = datasets.digits(train_size=120, device=torch.device("cpu"), seed=0)
    torch.manual_seed(0)
    model = mlp(dataset.shape, width=8, activation="tanh").double()

    class Wide:  # the same batches in float64
        train_size, steps = dataset.train_size, dataset.steps

        def train_batches(self, *args):
            return (Batch(b.x.double(), b.y) for b in dataset.train_batches(*args))

    objective = Objective(model, micro_batch=13)
    seen = Corridor("train", dataset=Wide(), batch_size=50).look(objective, None)
    (whole,) = Wide().train_batches(0, 120)
    expected = Corridor().look(Objective(model), whole)
    assert seen.keys() == expected.keys()
    for key, value in seen.items():
        assert value.item() == pytest.approx(expected[key].item(), rel=1e-9), key


def test_a_fixed_batch_is_the_same_at_every_look() -> None:
    dataset = datasets.digits(train_size=120, device=torch.device("cpu"), seed=0)
    model = mlp(dataset.shape, width=8)
    probe = Corridor("fixed", dataset=dataset, batch_size=30)
    first, second = list(dataset.train_batches(1, 30))[:2]
    a, b = (probe.look(Objective(model), batch)[records.HG_NORM].item() for batch in (first, second))
    assert a == b
    assert a != Corridor().look(Objective(model), second)[records.HG_NORM].item()


@pytest.mark.parametrize("probe", [Corridor(), Sharpness(images="batch")])
def test_a_model_without_second_derivatives_is_refused_in_one_line(probe: Probe) -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return grad * 2

    surface = Surface(torch.ones(3), lambda t: Once.apply(t).square().sum())
    with pytest.raises(RunError, match=r"no second derivatives.*probe=none"):
        probe.look(Objective(surface, loss=mean), ANY_BATCH)


@pytest.mark.slow
def test_the_memory_of_a_full_data_look_is_that_of_a_micro_batch() -> None:
    """Peak resident memory for 5,000 images and for one micro-batch, each in its own process."""
    code = """
import resource, sys, torch
from corridor_exp.objective.batches import DataShape
from corridor_exp.models import resnet18
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import Stream
model = resnet18(DataShape(3, 16, 10, "small"), width=16)
part = Batch(torch.randn(250, 3, 16, 16), torch.randint(0, 10, (250,)))
count = int(sys.argv[1])
Objective(model, micro_batch=250).gradient_and_hg(Stream(250 * count, lambda: (part for _ in range(count))))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    # Large blocks return to the system at once. Otherwise the fragmentation of the allocator adds a tenth.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    peak = {n: int(subprocess.check_output([sys.executable, "-c", code, str(n)], env=environment)) for n in (1, 20)}
    assert peak[20] < 1.02 * peak[1]


# ------------------------------------------------------------------------------- without Hg


def looks_of(*overrides: str) -> tuple[list[dict], int]:
    """The looks of a short run with dropout, and how many forward passes it took."""
    engine, emitted = engine_of("max_steps=6", "probe.every=2", "log_every=1", "epochs=9", *overrides)
    model, passes = engine.objective.model, []
    model.act1 = nn.Sequential(model.act1, nn.Dropout(0.3))
    model.hidden1.register_forward_hook(lambda *_: passes.append(1))
    torch.manual_seed(0)
    assert engine.train() == "completed"
    return emitted, sum(passes)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_without_hg_the_secants_are_the_same_for_a_gradient_and_a_forward_pass_more(norm: str) -> None:
    model = f"model.norm={norm}"
    (dark, steps), (plain, _) = looks_of("probe=none", model), looks_of("probe.corridor.hessian=true", model)
    cheap, passes = looks_of("probe.corridor.hessian=false", model)
    assert passes == steps + 2 * 3  # three looks, each with the midpoint and the end
    tangent = {records.HG_NORM, records.CORRIDOR_INDEX, records.GRADIENT_CURVATURE, records.HG_RATIO}
    for a, b, c in zip(plain, cheap, dark, strict=True):
        assert a[records.TRAIN_LOSS] == b[records.TRAIN_LOSS] == c[records.TRAIN_LOSS]
        missing = {key for key in a.keys() - b.keys() if not key.startswith(records.LAYER_HG_NORM)}
        assert missing in (set(), tangent | {records.SECANT_COSINE})
        for key in b.keys() - c.keys():
            assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6)


def test_under_autocast_a_look_without_hg_has_an_e_and_g_of_its_own() -> None:
    steps = looks_of("probe=none", "engine.precision=bf16")[1]
    assert looks_of("probe.corridor.hessian=false", "engine.precision=bf16")[1] == steps + 3 * 3


def test_a_look_after_the_gradient_sees_the_model_as_training_found_it() -> None:
    """Spectral norm's buffers move in every forward pass of training, and so do the random numbers."""
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
    objective = Objective(nn.Sequential(layer, nn.Dropout(0.5), nn.Tanh()))
    batch = Batch(torch.randn(8, 4), torch.randint(0, 3, (8,)))
    before = objective.before()
    E, g = objective.gradient(batch)
    loss = objective.backward(batch).loss
    past = objective.as_before(before, batch, loss)
    assert past.gradient(batch)[0] is loss
    kept = [p.grad.clone() for p in objective.theta]
    torch._foreach_zero_(past.gradient(batch)[1])  # as a probe of one's own may do
    assert all(torch.equal(p.grad, k) for p, k in zip(objective.theta, kept, strict=True))
    assert objective.loss(batch) != E
    assert past.loss(batch) == pytest.approx(E.item(), rel=1e-6)
    for ours, own, anew in zip(g, past.gradient(batch)[1], past.gradient(batch, objective.theta)[1], strict=True):
        torch.testing.assert_close(own, ours)
        torch.testing.assert_close(anew, ours)
