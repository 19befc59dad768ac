"""Functions with another double backward than torch's: right, and really used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.double_backward import own_double_backward
from corridor_exp.theory.vectors import flat, like

SHAPES = [(6, 3, 4, 5), (8, 3), (5, 3, 7)]


def inputs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x, gamma, beta = torch.randn(shape).double() * 2 + 1, torch.randn(3).double(), torch.randn(3).double()
    return x.requires_grad_(), gamma.requires_grad_(), beta.requires_grad_()


def ours(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    with own_double_backward():
        return F.batch_norm(x, None, None, gamma, beta, training=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_first_and_second_derivatives_are_those_of_finite_differences(shape: tuple[int, ...]) -> None:
    assert torch.autograd.gradcheck(ours, inputs(shape))
    assert torch.autograd.gradgradcheck(ours, inputs(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_double_backward_is_torchs(shape: tuple[int, ...]) -> None:
    x, gamma, beta = inputs(shape)

    def twice(y: Tensor) -> list[Tensor]:
        g = torch.autograd.grad(y.sin().sum(), (x, gamma, beta), create_graph=True)
        return [*g, *torch.autograd.grad(sum(t.square().sum() for t in g), (x, gamma, beta))]

    expected = twice(F.batch_norm(x, None, None, gamma, beta, training=True))
    torch.testing.assert_close(twice(ours(x, gamma, beta)), expected, rtol=1e-9, atol=1e-12)


CONVOLUTIONS = [
    {"stride": 1, "padding": 1},
    {"stride": (2, 1), "padding": (0, 1)},
    {"stride": 2, "padding": 2, "dilation": (1, 2)},
    {"stride": 1, "padding": 1, "groups": 2},
]
WITHOUT_GRADIENT = [(), ("bias",), ("x",), ("weight",), ("x", "bias"), ("weight", "bias"), ("x", "weight")]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("frozen", WITHOUT_GRADIENT, ids=lambda names: "-".join(names) or "all")
def test_a_convolution_has_the_derivatives_of_torch(options: dict[str, Any], frozen: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    shapes = {"x": (3, 4, 6, 5), "weight": (6, 4 // options.get("groups", 1), 3, 2), "bias": (6,)}
    all_of_them = {
        name: torch.randn(shape).double().requires_grad_(name not in frozen) for name, shape in shapes.items()
    }
    free = [t for name, t in all_of_them.items() if name not in frozen]

    def twice(x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
        g = torch.autograd.grad(F.conv2d(x, weight, bias, **options).sin().sum(), free, create_graph=True)
        return [*g, *torch.autograd.grad(sum(t.square().sum() for t in g), free)]

    expected = twice(**all_of_them)
    with own_double_backward():
        found = twice(**all_of_them)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_convolution_has_the_derivatives_of_finite_differences() -> None:
    torch.manual_seed(0)
    shapes = [(2, 2, 4, 3), (2, 2, 3, 2), (2,)]

    def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with own_double_backward():
            return F.conv2d(x, weight, bias, stride=2, padding=1)

    assert torch.autograd.gradgradcheck(convolution, [torch.randn(s).double().requires_grad_() for s in shapes])


def test_convolutions_that_it_cannot_do_stay_torchs() -> None:
    torch.manual_seed(0)
    weight = torch.randn(2, 2, 3, 3, requires_grad=True)
    with own_double_backward():
        batch = F.conv2d(torch.randn(1, 2, 4, 4), weight)
        image = F.conv2d(torch.randn(2, 4, 4), weight)
        word = F.conv2d(torch.randn(1, 2, 4, 4), weight, padding="same")
    names = [t.grad_fn.name() for t in (batch, image, word) if t.grad_fn]
    assert "_Convolution" in names[0]
    assert "_Convolution" not in str(names[1:])


class Watch(nn.Module):
    """Keeps the names of the nodes that made its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.grad_fn.name() if x.grad_fn else "")
        return x


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_hg_takes_it_and_batch_norms_that_it_cannot_do_stay_torchs(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    watch = Watch()
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), watch, nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    batch = Batch(torch.randn(5, 1, 8, 8).to(memory_format=layout), torch.tensor([0, 1, 0, 1, 1]))
    model.double().to(memory_format=layout)
    objective = Objective(model)
    E, g, hg = objective.gradient_and_hg(Batch(batch.x.double(), batch.y))
    assert "_BatchNorm" in watch.seen[-1]

    loss = F.cross_entropy(model(batch.x.double()), batch.y)
    assert "NativeBatchNorm" in str(watch.seen)
    assert torch.equal(E, loss)
    expected = torch.autograd.grad(loss, model.parameters(), create_graph=True)
    torch.testing.assert_close(list(g), list(expected), rtol=1e-10, atol=1e-13)
    expected_hg = torch.autograd.grad(expected, model.parameters(), [t.detach() for t in expected])
    torch.testing.assert_close(list(hg), list(expected_hg), rtol=1e-9, atol=1e-12)

    model.eval()
    objective.gradient_and_hg(Batch(batch.x.double(), batch.y))
    assert "NativeBatchNorm" in str(watch.seen)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_weight_norm_has_right_derivatives(dim: int) -> None:
    v, g = inputs((3, 3))[0], torch.rand({0: (3, 1), 1: (1, 3), -1: ()}[dim]).double().requires_grad_()

    def weight_norm(v: Tensor, g: Tensor) -> Tensor:
        with own_double_backward():
            w: Tensor = torch._weight_norm(v, g, dim)
            return w

    torch.testing.assert_close(weight_norm(v, g), torch._weight_norm(v, g, dim))
    assert torch.autograd.gradcheck(weight_norm, (v, g))
    assert torch.autograd.gradgradcheck(weight_norm, (v, g))


def test_attention_has_a_hessian_that_is_the_dense_one() -> None:
    """The fused kernels, which training takes, have no double backward."""
    torch.manual_seed(0)
    attention = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True, activation="gelu")
    model = nn.Sequential(attention, nn.Flatten(), nn.Linear(12, 2)).double()
    batch = Batch(torch.randn(5, 3, 4).double(), torch.randint(0, 2, (5,)))
    E = F.cross_entropy(model(batch.x), batch.y)
    g = torch.autograd.grad(E, list(model.parameters()), create_graph=True)
    with pytest.raises(RuntimeError, match=r"flash_attention.* not implemented"):
        torch.autograd.grad(sum(t.square().sum() for t in g), list(model.parameters()))

    names = [name for name, _ in model.named_parameters()]
    theta = [p.detach() for p in model.parameters()]

    def loss(point: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            outputs = functional_call(model, dict(zip(names, like(point, theta), strict=True)), (batch.x,))
        return F.cross_entropy(outputs, batch.y)

    H = torch.autograd.functional.hessian(loss, flat(theta))
    _, g, hg = Objective(model).gradient_and_hg(batch)
    torch.testing.assert_close(flat(hg), H @ flat(g), rtol=1e-8, atol=1e-12)
