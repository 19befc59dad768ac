"""E, g and Hg on a CUDA device are those of the CPU, in float64, for every kind of layer that the networks have."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corridor_exp import models
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import DataShape
from tests.objective.test_double_backward import SHAPES, inputs, ours

NETWORKS = {
    "resnet18_haiku": {},
    "resnet50_haiku": {},
    "resnet18": {"norm": "group"},
    "densenet121": {},
    "vgg11": {"norm": "batch"},
}


@pytest.mark.cuda
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_its_gradient_and_hg_are_those_of_the_cpu(name: str, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    model = getattr(models, name)(DataShape(3, 32, 10, "small"), width=8, **NETWORKS[name]).double()
    for p in model.parameters():
        if not p.any():  # a zero layer hides the others
            nn.init.normal_(p, std=0.1)
    x, y = torch.randn(16, 3, 32, 32).double(), torch.arange(16) % 10

    def quantities(device: str) -> list[Tensor]:
        model.to(device, memory_format=layout)
        batch = Batch(x.to(device, memory_format=layout), y.to(device))
        E, g, hg = Objective(model).gradient_and_hg(batch)
        return [t.cpu() for t in (E, *g, *hg)]

    torch.testing.assert_close(quantities("cuda"), quantities("cpu"), rtol=1e-7, atol=1e-9)


@pytest.mark.cuda
@pytest.mark.parametrize("shape", SHAPES)
def test_the_double_backward_of_batch_norm_is_that_of_finite_differences(shape: tuple[int, ...]) -> None:
    on_device = tuple(t.detach().cuda().requires_grad_() for t in inputs(shape))
    assert torch.autograd.gradcheck(ours, on_device)
    assert torch.autograd.gradgradcheck(ours, on_device)
    x, gamma, beta = on_device
    torch.testing.assert_close(ours(*on_device), F.batch_norm(x, None, None, gamma, beta, training=True))
