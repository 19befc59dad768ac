"""Convolutions of small maps, compared with torch's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.models import resnet18 as torchvisions_resnet18

from corridor_exp import models
from corridor_exp.models.convolution import SmallMapConv2d
from corridor_exp.objective.batches import DataShape

SIZES = st.integers(1, 7)


@given(kernel=st.sampled_from([1, 3, 5, 7]), stride=st.integers(1, 3), rows=SIZES, columns=SIZES)
def test_small_maps_equal_torchs_convolution(kernel: int, stride: int, rows: int, columns: int) -> None:
    """Values, the gradients of input and weight, and a Hessian product."""
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, kernel, stride, kernel // 2, bias=False).double()
    x = torch.randn(2, 2, rows, columns, dtype=torch.float64, requires_grad=True)
    found = []
    for layer in (SmallMapConv2d(conv), conv):
        y = layer(x)
        g = torch.autograd.grad(y.pow(3).sum(), (x, layer.weight), create_graph=True)
        found.append((y, *g, *torch.autograd.grad(sum(t.square().sum() for t in g), (x, layer.weight))))
    torch.testing.assert_close(*found)


def test_resnet18_is_torchvisions() -> None:
    """The ImageNet stem at 32 pixels, where the last stage has maps of one pixel."""
    torch.manual_seed(0)
    ours = models.resnet18(DataShape(3, 32, 10, "imagenet")).double()
    theirs = torchvisions_resnet18(num_classes=10).double()
    theirs.load_state_dict(ours.state_dict())
    x, y = torch.randn(8, 3, 32, 32, dtype=torch.float64), torch.arange(8)
    losses = [F.cross_entropy(model(x), y) for model in (ours, theirs)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    gradients = [{name: p.grad for name, p in model.named_parameters()} for model in (ours, theirs)]
    torch.testing.assert_close(*gradients)
