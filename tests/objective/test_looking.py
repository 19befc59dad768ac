"""A look leaves no trace in any kind of module, and sees E, g and Hg of it as they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from corridor_exp.errors import RunError
from corridor_exp.objective import Batch, Objective
from corridor_exp.theory.vectors import flat, like
from tests.objective.zoo import PARTLY, ZOO, Attention, Build, inside, made, tied, twice

BATCH = Batch(
    torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
    torch.tensor([0, 1, 2, 0, 1, 2]),
)


def loss_there(build: Build, theta: Tensor | None = None) -> tuple[nn.Module, list[nn.Parameter], Tensor]:
    """A new model's parameters, moved to a point, and its loss, by torch alone."""
    model = made(build, plain=True)
    params = [p for p in model.parameters() if p.requires_grad]
    if theta is not None:
        vector_to_parameters(theta, params)
    torch.manual_seed(7)
    return model, params, F.cross_entropy(model(BATCH.x), BATCH.y)


def E_and_g(build: Build, theta: Tensor) -> tuple[Tensor, Tensor]:
    _, params, E = loss_there(build, theta)
    return E.detach(), flat(torch.autograd.grad(E, params))


def difference(f: Callable[[Tensor], Tensor], at: Tensor, along: Tensor) -> Tensor:
    """The derivative of f, by central differences."""
    step = 1e-5
    return (f(at + step * along) - f(at - step * along)) / (2 * step)


def looks(objective: Objective) -> dict[str, Callable[[], Any]]:
    moved = [p.detach() + 0.1 for p in objective.theta]
    ones = [torch.ones_like(p) for p in objective.theta]
    return {
        "loss": lambda: objective.loss(BATCH, moved),
        "gradient": lambda: objective.gradient(BATCH),
        "gradient elsewhere": lambda: objective.gradient(BATCH, moved),
        "gradient_and_hg": lambda: objective.gradient_and_hg(BATCH),
        "hessian_product": lambda: objective.hessian_product(BATCH, ones),
        "trial": lambda: objective.trial(BATCH)(moved),
        "trial of the parameters": lambda: objective.trial(BATCH)(objective.theta),
        "fits": lambda: objective.fits(BATCH, hessian=True),
    }


class Everything:
    """What a run consists of: objects, and their bits."""

    def __init__(self, model: nn.Module) -> None:
        self.objects = {
            **dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False)),
            **{f"{name}.grad": p.grad for name, p in model.named_parameters()},
            **{f"{name} {key}": value for name, m in model.named_modules() for key, value in vars(m).items()},
        }
        self.bits = {key: t.detach().clone() for key, t in self.objects.items() if isinstance(t, Tensor)}
        self.places = {key: t.data_ptr() for key, t in self.objects.items() if isinstance(t, Tensor)}
        self.random = torch.get_rng_state()

    def assert_same(self, then: Everything) -> None:
        assert self.objects.keys() == then.objects.keys()
        assert [k for k in self.objects if self.objects[k] is not then.objects[k]] == []
        assert [k for k in self.bits if not torch.equal(self.bits[k], then.bits[k])] == []
        assert self.places == then.places
        assert torch.equal(self.random, then.random)


@pytest.fixture(autouse=True)
def no_advice() -> Iterator[None]:
    """Of torch: on old forms of norms, and on checkpoints whose input needs no gradient."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("micro_batch", [None, 4])
@pytest.mark.parametrize("name", [*ZOO, *PARTLY])
def test_a_look_changes_nothing(name: str, micro_batch: int | None) -> None:
    model = made({**ZOO, **PARTLY}[name])
    objective = Objective(model, micro_batch=micro_batch)
    if micro_batch is None:
        objective.backward(BATCH)
    for look in looks(objective).values():
        before = Everything(model)
        look()
        before.assert_same(Everything(model))


@pytest.mark.parametrize("name", [*ZOO, *PARTLY])
def test_training_goes_on_as_if_nobody_had_looked(name: str) -> None:
    def trained(looking: bool) -> Everything:
        objective = Objective(made({**ZOO, **PARTLY}[name]), micro_batch=4)
        optimizer = torch.optim.SGD(objective.theta, lr=0.1)
        for _ in range(3):
            for look in looks(objective).values() if looking else []:
                look()
            objective.backward(BATCH)
            optimizer.step()
        return Everything(objective.model)

    seen, unseen = trained(True), trained(False)
    assert [k for k in unseen.bits if not torch.equal(seen.bits[k], unseen.bits[k])] == []
    assert torch.equal(seen.random, unseen.random)


@pytest.mark.parametrize("name", [*ZOO, *PARTLY])
def test_e_and_g_are_those_of_torch_at_every_point(name: str) -> None:
    build = {**ZOO, **PARTLY}[name]
    objective = Objective(made(build))
    theta = flat(objective.theta).detach()
    moved = theta + 0.3 * torch.randn_like(theta)
    for point in (theta, moved):
        E, g = E_and_g(build, point)
        torch.manual_seed(7)
        there = like(point, objective.theta)
        mine = objective.gradient(BATCH, there)
        torch.testing.assert_close(mine[0], E, rtol=1e-12, atol=0)
        torch.testing.assert_close(flat(mine[1]), g, rtol=0, atol=1e-12)
        assert torch.equal(objective.loss(BATCH, there), mine[0])
        assert torch.equal(objective.trial(BATCH)(there), mine[0])
        if name in ZOO:
            slope = difference(lambda t: loss_there(build, t)[2].detach(), point, g)
            torch.testing.assert_close(slope, g.dot(flat(mine[1])), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", ZOO)
def test_hg_is_that_of_differences_of_g(name: str) -> None:
    build = ZOO[name]
    objective = Objective(made(build))
    theta = flat(objective.theta).detach()
    E, g = E_and_g(build, theta)
    expected = difference(lambda t: E_and_g(build, t)[1], theta, g)
    torch.manual_seed(7)
    mine = objective.gradient_and_hg(BATCH)
    torch.testing.assert_close(mine[0], E, rtol=1e-12, atol=0)
    torch.testing.assert_close(flat(mine[1]), g, rtol=0, atol=1e-12)
    torch.testing.assert_close(flat(mine[2]), expected, rtol=1e-6, atol=1e-8)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(objective.hessian_product(BATCH, mine[1]), mine[2], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", PARTLY)
def test_hg_of_what_torch_differentiates_in_part_is_torchs(name: str) -> None:
    _, params, E = loss_there(PARTLY[name])
    g = torch.autograd.grad(E, params, create_graph=True)
    expected = torch.autograd.grad(g, params, [t.detach() for t in g])
    mine = Objective(made(PARTLY[name])).gradient_and_hg(BATCH)
    torch.testing.assert_close(flat(mine[2]), flat(expected), rtol=1e-9, atol=1e-12)
    assert flat(expected).abs().max() > 1e-3


def test_a_look_that_fails_changes_nothing() -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    for fails in ("register_forward_hook", "register_full_backward_hook"):
        model = made(ZOO["batch norm under two names"])
        objective = Objective(model)
        objective.backward(BATCH)
        getattr(model[-1], fails)(fail)
        for name in ("gradient", "gradient elsewhere", "gradient_and_hg", "hessian_product"):
            before = Everything(model)
            with pytest.raises(KeyboardInterrupt):
                looks(objective)[name]()
            before.assert_same(Everything(model))


def test_a_look_calls_no_hook_of_a_parameter_and_training_does() -> None:
    model = made(tied)
    called: list[str] = []
    model[0].weight.register_hook(lambda g: called.append("gradient"))
    model[0].weight.register_post_accumulate_grad_hook(lambda p: called.append("accumulated"))
    objective = Objective(model)
    for look in looks(objective).values():
        look()
    assert called == []
    objective.backward(BATCH)
    assert called == ["gradient", "accumulated"]


class Reentrant(torch.autograd.Function):
    """Others' checkpoint: its gradients go straight into `p.grad`."""

    @staticmethod
    def forward(ctx: Any, layer: nn.Module, x: Tensor) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(x)
        y: Tensor = layer(x)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[None, Tensor | None]:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            ctx.layer(x).backward(dy)
        return None, x.grad


class Others(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = Reentrant.apply(self.layer, x)
        return y


def test_a_backward_pass_that_fills_p_grad_by_itself_is_refused_by_the_parameters_name() -> None:
    model = made(lambda plain: inside(Others(nn.Linear(4, 4))))
    objective = Objective(model)
    objective.backward(BATCH)
    for look in (objective.gradient, objective.gradient_and_hg):
        before = Everything(model)
        with pytest.raises(RunError, match=r"fills 2\.layer\.weight\.grad"):
            look(BATCH)
        before.assert_same(Everything(model))
    objective.loss(BATCH)


def test_fused_attention_has_the_gradient_elsewhere_and_the_hg_of_the_plain_one() -> None:
    fused, plain = (
        Objective(made(lambda plain, f=f: nn.Sequential(Attention(f), nn.Linear(4, 3)))) for f in (True, False)
    )
    moved = [p.detach() + 0.1 for p in fused.theta]
    torch.testing.assert_close(fused.gradient(BATCH, moved), plain.gradient(BATCH, moved))
    before = Everything(fused.model)
    torch.testing.assert_close(fused.gradient_and_hg(BATCH), plain.gradient_and_hg(BATCH))
    before.assert_same(Everything(fused.model))


def test_the_cache_of_autocast_does_not_take_the_parameters_for_where_they_stood() -> None:
    """Inside autocast, which keeps the cast parameters for as long as it is on."""
    objective = Objective(made(tied).float(), precision=torch.bfloat16)
    batch, moved = Batch(BATCH.x.float(), BATCH.y), [p.detach() + 1 for p in objective.theta]
    expected = objective.trial(batch)(moved)
    with torch.autocast("cpu", torch.bfloat16):
        objective.backward(batch)
        assert torch.equal(objective.trial(batch)(moved), expected)


def test_a_scripted_module_is_seen_at_another_point() -> None:
    model = made(lambda plain: twice(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    moved = [p.detach() + 0.1 for p in model.parameters()]
    scripted = torch.jit.trace(model, BATCH.x)
    state = {key: t.clone() for key, t in scripted.state_dict().items()}
    seen, expected = Objective(scripted).gradient(BATCH, moved), Objective(model).gradient(BATCH, moved)
    torch.testing.assert_close(seen, expected)
    assert all(torch.equal(t, scripted.state_dict()[key]) for key, t in state.items())
