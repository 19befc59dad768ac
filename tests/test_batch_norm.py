"""Batch norm with a short double backward: the derivatives of torch's own, and really used."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corridor_exp.batch_norm import ShortDoubleBackward
from corridor_exp.errors import RunError
from corridor_exp.objective import Batch, Objective
from tests.conftest import engine_of, same, weights

SHAPES = [(6, 3, 4, 5), (8, 3), (5, 3, 7)]


def inputs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x, gamma, beta = torch.randn(shape).double() * 2 + 1, torch.randn(3).double(), torch.randn(3).double()
    return x.requires_grad_(), gamma.requires_grad_(), beta.requires_grad_()


def ours(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    with ShortDoubleBackward():
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


class Watch(nn.Module):
    """Keeps the name of the node that made its input."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x.grad_fn.name() if x.grad_fn else None
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
    assert "_BatchNorm" in str(watch.seen)

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


# --------------------------------------------------------------- one image alone

SMALL_NET = ["model=mlp", "model.norm=batch", "probe=none"]  # its batch norm has one value a channel of an image
CONVOLUTIONS = ["model=resnet18", "model.width=4", "probe=none"]  # the last one sees 1 × 1 pixels of 8 × 8


@pytest.mark.parametrize(
    "argv",
    [
        ["dataset.train_size=65", "batch_size=64"],
        ["dataset.train_size=7", "batch_size=7", "engine.micro_batch=3"],
        ["dataset.train_size=8", "batch_size=4", "engine.micro_batch=1"],
        ["dataset.train_size=8", "batch_size=1"],
        ["dataset.train_size=1", "batch_size=64"],
        ["dataset.train_size=65", "batch_size=64", "max_steps=2"],
        ["dataset.train_size=65", "batch_size=64", "max_steps=1", "probe=sharpness", "probe.sharpness.images=train"],
    ],
)
@pytest.mark.parametrize("network", [SMALL_NET, CONVOLUTIONS], ids=["mlp", "resnet18"])
def test_an_image_that_batch_norm_would_see_alone_is_refused_before_training(
    network: list[str], argv: list[str]
) -> None:
    with pytest.raises(RunError, match=r"leaves one image of \d+ alone.*dataset\.drop_last=true"):
        engine_of(*network, *argv)


@pytest.mark.parametrize(
    "argv",
    [
        [*SMALL_NET, "dataset.train_size=65", "batch_size=64", "dataset.drop_last=true"],
        [*SMALL_NET, "dataset.train_size=65", "batch_size=64", "max_steps=1"],
        [*SMALL_NET, "dataset.train_size=66", "batch_size=64", "engine.micro_batch=2", "max_steps=2"],
        [*SMALL_NET, "model.norm=none", "dataset.train_size=65", "batch_size=64", "max_steps=2"],
        [*CONVOLUTIONS, "dataset.train_size=5", "batch_size=4", "dataset.image_size=16", "max_steps=2"],
    ],
)
def test_what_batch_norm_can_train_on_is_trained_on(argv: list[str]) -> None:
    assert engine_of(*argv)[0].train() == "completed"


def test_looking_for_an_image_alone_changes_no_bit() -> None:
    seen = []
    for n in (8, 5):
        engine, _ = engine_of(*CONVOLUTIONS, f"dataset.train_size={n}", "batch_size=4", "dataset.image_size=16")
        seen.append([*weights(engine), torch.get_rng_state()])
    assert same(*seen)
