"""`look`: the quantities of the probes for anybody's model, and what it says where there are none."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from corridor_exp import look
from corridor_exp.errors import RunError
from corridor_exp.objective import Objective
from corridor_exp.objective.batches import Batch
from corridor_exp.probes import Corridor, Look, Sharpness
from corridor_exp.probes.noise import between
from corridor_exp.runs import records
from corridor_exp.theory.vectors import flat
from tests.conftest import Surface, mean, small_batch, small_network

THETA = torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64)
CROSS_ENTROPY = nn.CrossEntropyLoss()
TANGENT = {records.HG_NORM, records.CORRIDOR_INDEX, records.GRADIENT_CURVATURE, records.SECANT_COSINE}
SECANT = {
    *(records.CLR_STEP, records.SECANT_HG_NORM, records.SECANT_CORRIDOR_INDEX),
    *(records.GRADIENT_ALIGNMENT, records.DECREASE_RATIO, records.PROBE_VERSION),
}
ALWAYS = {records.TRAIN_LOSS, records.TRAIN_GRAD_NORM}


def on_surface(E: Callable[[Tensor], Tensor], theta: Tensor = THETA, **options: bool) -> Look:
    return look(Surface(theta, E), mean, torch.zeros(1, 1), torch.zeros(1), **options)


def test_a_cone_is_a_corridor() -> None:
    seen = on_surface(lambda t: t.norm())
    assert seen[records.CORRIDOR_INDEX] == pytest.approx(0, abs=1e-12)
    assert seen[records.SECANT_CORRIDOR_INDEX] == pytest.approx(0, abs=1e-12)
    assert seen[records.GRADIENT_ALIGNMENT] == pytest.approx(1, abs=1e-12)
    assert seen[records.DECREASE_RATIO] == pytest.approx(1, abs=1e-12)
    assert seen[records.CLR_STEP] == pytest.approx(THETA.norm().item())
    assert set(seen.why) <= {records.SECANT_COSINE}  # of two vectors that are 0, or their rounding errors


def test_a_round_bowl_is_none() -> None:
    seen = on_surface(lambda t: t.square().sum(), sharpness=True)
    assert set(seen) == ALWAYS | TANGENT | SECANT | {records.SHARPNESS}
    assert seen[records.CORRIDOR_INDEX] == pytest.approx(0.5)
    assert seen[records.GRADIENT_ALIGNMENT] == pytest.approx(0.75)
    assert seen[records.SHARPNESS] == pytest.approx(2)
    assert not seen.why


# ------------------------------------------------------------------------------- oracles


def dense(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """The same quantities by torch's dense gradient and Hessian, in float64."""
    names = [name for name, _ in model.named_parameters()]
    theta = [p.detach() for p in model.parameters()]

    def E(point: Tensor) -> Tensor:
        parts = [t.view_as(p) for t, p in zip(point.split([p.numel() for p in theta]), theta, strict=True)]
        buffers = {name: b.clone() for name, b in model.named_buffers()}
        return F.cross_entropy(functional_call(model, {**dict(zip(names, parts, strict=True)), **buffers}, (x,)), y)

    start = flat(theta)
    g, H = torch.autograd.functional.jacobian(E, start), torch.autograd.functional.hessian(E, start)
    hg, square, loss = H @ g, g @ g, E(start)
    h = loss / square
    g_midpoint = torch.autograd.functional.jacobian(E, start - h / 2 * g)
    change = g - g_midpoint
    quantities = {
        records.TRAIN_LOSS: loss,
        records.TRAIN_GRAD_NORM: g.norm(),
        records.CLR_STEP: h,
        records.HG_NORM: hg.norm(),
        records.CORRIDOR_INDEX: loss * hg.norm() / g.norm() ** 3,
        records.GRADIENT_CURVATURE: g @ hg / square,
        records.SECANT_HG_NORM: change.norm() / (h / 2),
        records.SECANT_COSINE: torch.cosine_similarity(change, hg, dim=0),
        records.SECANT_CORRIDOR_INDEX: change.norm() / (g.norm() / 2),
        records.GRADIENT_ALIGNMENT: g_midpoint @ g / square,
        records.DECREASE_RATIO: 1 - E(start - h * g) / loss,
        records.SHARPNESS: torch.linalg.eigvalsh(H)[-1],
    }
    return {name: value.item() for name, value in quantities.items()}


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_it_is_what_dense_derivatives_say(norm: str) -> None:
    model, (x, y) = small_network(norm), small_batch()
    seen = look(model, CROSS_ENTROPY, x, y, sharpness=True)
    for name, value in dense(model, x, y).items():
        assert seen[name] == pytest.approx(value, rel=1e-3 if name == records.SHARPNESS else 1e-9), name


def test_it_is_what_curvlinops_says() -> None:
    from curvlinops import HessianLinearOperator

    model, (x, y) = small_network(), small_batch()
    H = HessianLinearOperator(model, CROSS_ENTROPY, list(model.parameters()), [(x, y)])
    g = torch.autograd.grad(CROSS_ENTROPY(model(x), y), list(model.parameters()))
    hg = flat(H @ list(g))
    seen = look(model, CROSS_ENTROPY, x, y)
    assert seen[records.HG_NORM] == pytest.approx(hg.norm().item(), rel=1e-9)
    assert seen[records.GRADIENT_CURVATURE] == pytest.approx((flat(g) @ hg / (flat(g) @ flat(g))).item(), rel=1e-9)


def test_a_list_of_batches_is_their_mean_whatever_their_sizes() -> None:
    model, (x, y) = small_network(), small_batch(12)
    whole = look(model, CROSS_ENTROPY, x, y, layers=True)
    cut = look(model, CROSS_ENTROPY, list(x.split(5)), list(y.split(5)), layers=True)
    assert cut.keys() == whole.keys() > {records.LAYER_HG_NORM + "0"}
    for name, value in whole.items():
        assert cut[name] == pytest.approx(value, rel=1e-9), name


def test_its_names_and_numbers_are_those_of_the_probes() -> None:
    model, (x, y) = small_network("batch"), small_batch(12)
    parts = [Batch(*part) for part in zip(x.split(4), y.split(4), strict=True)]
    seen = look(model, CROSS_ENTROPY, list(x.split(4)), list(y.split(4)), noise=True)
    expected = between(Objective(model), parts, math.inf, hessian=True)
    assert {name: seen[name] for name in expected} == {k: None if v.isnan() else v.item() for k, v in expected.items()}
    seen = look(model, CROSS_ENTROPY, *parts[0], sharpness=True)
    expected = {}
    for probe in (Corridor(layers=False), Sharpness("batch")):
        expected |= probe.look(Objective(model), parts[0])
    assert {k: v for k, v in seen.items() if k not in ALWAYS} == {k: v.item() for k, v in expected.items()}


def test_without_hessian_nothing_of_it_is_there() -> None:
    model, (x, y) = small_network(), small_batch()
    seen, whole = look(model, CROSS_ENTROPY, x, y, hessian=False), look(model, CROSS_ENTROPY, x, y)
    assert set(seen) == ALWAYS | SECANT
    assert seen == pytest.approx({name: whole[name] for name in seen}, rel=1e-12)


# ------------------------------------------------------------------------------ no trace


class Busy(nn.Module):
    """Batch norm, dropout, a counter, attention, and autocast of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)
        self.norm, self.last = nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        with torch.autocast("cpu", torch.bfloat16):
            return self.last(self.norm(self.attention(x).mean(1))).float()


def busy_step(look_at: Callable[..., Any] | None, **options: bool) -> tuple[Busy, list[Tensor]]:
    """One step of training, in the middle of which somebody looks: the model, and all that it left."""
    torch.manual_seed(0)
    model = Busy()
    model.last.eval()
    x, y = torch.randn(12, 5, 8), torch.randint(0, 3, (12,))
    CROSS_ENTROPY(model(x), y).backward()
    loss = CROSS_ENTROPY(model(x), y)
    if look_at:
        look_at(model, CROSS_ENTROPY, list(x.split(4)), list(y.split(4)), **options)
    loss.backward()
    left = [*model.state_dict().values(), *(p.grad for p in model.parameters()), torch.get_rng_state()]
    return model, left


@pytest.mark.parametrize("options", [{"hessian": False}, {"layers": True, "sharpness": True, "noise": True}])
def test_it_leaves_no_trace_between_forward_and_backward(options: dict[str, bool]) -> None:
    model, left = busy_step(look, **options)
    _, expected = busy_step(None)
    assert all(torch.equal(a, b) for a, b in zip(left, expected, strict=True))
    assert model.calls == 2
    assert [m.training for m in (model, model.last, model.norm)] == [True, False, True]
    assert not torch.is_autocast_enabled("cpu")


def test_it_sees_the_same_whatever_the_loop_does_around_it() -> None:
    model, (x, y) = small_network("batch"), small_batch()
    expected = look(model, CROSS_ENTROPY, x, y)
    for around in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
        with around:
            assert look(model, CROSS_ENTROPY, x, y) == expected
    with torch.inference_mode():
        assert look(model, CROSS_ENTROPY, x + 0, y + 0) == expected
    assert look(nn.DataParallel(model), CROSS_ENTROPY, x, y) == expected
    assert look(torch.compile(model), CROSS_ENTROPY, x, y) == expected
    in_place = copy.deepcopy(model)
    in_place.compile()
    assert look(in_place, CROSS_ENTROPY, x, y) == expected


def test_autocast_of_the_models_own_is_off() -> None:
    """As accelerate builds it into a model."""

    class Mixed(nn.Module):
        def __init__(self, inside: nn.Module) -> None:
            super().__init__()
            self.inside = inside

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.inside(x).float()

    torch.manual_seed(0)
    inside = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    x, y = torch.randn(12, 8), torch.randint(0, 3, (12,))
    assert look(Mixed(inside), CROSS_ENTROPY, x, y) == look(inside, CROSS_ENTROPY, x, y)
    assert not Mixed(inside)(x).equal(inside(x))


def test_a_model_may_return_what_only_its_loss_understands() -> None:
    class Named(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.net(x)}

    net, (x, y) = small_network(), small_batch(12)
    assert look(Named(net), lambda o, t: CROSS_ENTROPY(o["logits"], t), x, y) == look(net, CROSS_ENTROPY, x, y)


def test_the_sharpness_of_complex_parameters_is_not_told() -> None:
    class Wave(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([1.0 + 2.0j, -0.5j], dtype=torch.complex128))

        def forward(self, x: Tensor) -> Tensor:
            return (x * self.w).abs().square().sum().expand(1)

    seen = look(Wave(), mean, torch.ones(1, 2), torch.zeros(1), sharpness=True)
    assert seen[records.SHARPNESS] is None
    assert "complex" in seen.why[records.SHARPNESS]


# ------------------------------------------------------------------- what cannot be measured


def test_a_batch_of_several_inputs_has_as_many_images_as_its_first() -> None:
    class Named(nn.Module):
        def __init__(self, net: nn.Module, pick: Callable[[Any], Tensor]) -> None:
            super().__init__()
            self.net, self.pick = net, pick

        def forward(self, x: Any) -> Tensor:
            return self.net(self.pick(x))

    net, (x, y) = small_network(), small_batch(12)
    whole = look(net, CROSS_ENTROPY, x, y)
    parts, targets = list(x.split([10, 2])), list(y.split([10, 2]))
    for named, several in (
        (Named(net, lambda x: x["a"]), [{"a": part, "b": 1} for part in parts]),
        (Named(net, lambda x: x[0]), [(part, 1) for part in parts]),
    ):
        cut = look(named, CROSS_ENTROPY, several, targets)
        assert cut[records.TRAIN_LOSS] == pytest.approx(whole[records.TRAIN_LOSS])
        assert cut[records.HG_NORM] == pytest.approx(whole[records.HG_NORM])
        with pytest.raises(RunError, match="batches of one size"):
            look(named, CROSS_ENTROPY, several, targets, noise=True)
