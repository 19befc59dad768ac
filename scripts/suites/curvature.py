"""E, g and Hg together, and a look that needs no Hg."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from corridor_exp.models import resnet18
from corridor_exp.objective import Objective
from corridor_exp.probes.corridor import Corridor
from suites.measure import Ratios, interleaved
from suites.training import CIFAR, device_and_batch


def hg(repeats: int | None) -> Ratios:
    """E, g and Hg of ResNet-18 (CIFAR stem, batch statistics) on 64 images, beside one gradient and curvlinops.

    Beside them a look without Hg at a batch whose E and g training has: the gradient at the midpoint and a loss.
    """
    from curvlinops import HessianLinearOperator

    device, batch = device_and_batch(64)
    model = resnet18(CIFAR).to(device)
    objective, params, probe = Objective(model), list(model.parameters()), Corridor(hessian=False)
    E, _ = objective.backward(batch)
    # curvlinops cannot move running statistics; without them batch norm still uses those of the batch.
    bare = torch.func.replace_all_batch_norm_modules_(copy.deepcopy(model))

    def gradient() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(F.cross_entropy(model(batch.x), batch.y), params)

    def with_curvlinops() -> object:
        g = gradient()
        H = HessianLinearOperator(
            bare, nn.CrossEntropyLoss(), list(bare.parameters()), [batch], check_deterministic=False
        )
        return H @ list(g)

    tasks = {
        "one gradient": gradient,
        "E, g and Hg": lambda: objective.gradient_and_hg(batch),
        "a look without Hg": lambda: probe.look(objective.as_before(objective.before(), batch, E), batch),
        "gradient + curvlinops product": with_curvlinops,
    }
    one, ours, look, theirs = interleaved(tasks, repeats or 7).values()
    return {"hg_vs_gradient": ours / one, "hg_vs_curvlinops": ours / theirs, "look_vs_gradient": look / one}
