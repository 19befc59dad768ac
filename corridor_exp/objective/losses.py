"""Losses that several data sets have, each a mean over the batch of outputs N × C and targets, and right answers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def half_squared_error(outputs: Tensor, y: Tensor) -> Tensor:
    """½ ‖output − target‖², a sum over the C outputs and a mean over the batch.

    Targets are numbers, N × C, or classes. A class is a one-hot vector, or ±1 where a single output tells two classes.
    The factor ½ and the sum are the convention of the work on the edge of stability (Cohen et al., ICLR 2021). CLR's
    update is the same for any factor, and a fixed rate is not.
    """
    if not y.is_floating_point():
        y = F.one_hot(y, outputs.shape[1]) if outputs.shape[1] > 1 else 2 * y[:, None] - 1
    return (outputs - y).square().sum(1).mean() / 2


def logistic_loss(outputs: Tensor, y: Tensor) -> Tensor:
    """The mean of log(1 + exp(−ỹz)), where z is the only logit and ỹ = 2y − 1 = ±1 for labels y of 0 or 1.

    A network with one logit for each class has the same loss as a function of their difference, and twice the ‖g‖².
    """
    return F.binary_cross_entropy_with_logits(outputs.squeeze(1), y.to(outputs.dtype))


def right_answers(outputs: Tensor, y: Tensor) -> Tensor:
    """How many of the classes y the outputs name: by the largest logit, or the sign of a single one."""
    named = outputs.argmax(1) if outputs.shape[1] > 1 else outputs.squeeze(1) > 0
    return (named == y).sum()
