"""The noise of the gradient: how much the batches of an epoch disagree at one θ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from corridor_exp.errors import RunError
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.looking import same_draws
from corridor_exp.runs import records
from corridor_exp.theory import noise
from corridor_exp.theory.vectors import inner

if TYPE_CHECKING:
    from corridor_exp.datasets.base import Dataset
    from corridor_exp.probes.base import Quantities


class Noise:
    """g_B, the gradient of a batch, and H_B, its Hessian, on the first `batches` batches of epoch 0, all at the same θ.

    All names begin with `probe/`. E is the mean over these batches, N the number of training images:
    - `batch_grad_norm_sq` = E‖g_B‖²;
    - `full_grad_norm_sq`: ‖g‖² of the whole training set, without bias, so that it can be negative;
    - `growth_ratio` = E‖g_B‖²/‖g‖², 1 without noise;
    - `noise_scale` = tr Σ/‖g‖² in images, Σ the covariance of the gradients of single images;
    - `batch_sharpness` = E[g_BᵀH_Bg_B]/E‖g_B‖², if `hessian` is set.

    The batches are the same at every look. Each has random numbers of its own, so dropout counts as noise. The ratios
    to ‖g‖² are null where its estimate is not positive: take more `batches`. The estimates assume that g_B is the mean
    over the images of the batch, which batch norm makes a little wrong.

    Raises `RunError` if an epoch has fewer than two whole batches.
    """

    def __init__(self, batches: int = 8, hessian: bool = True, *, dataset: Dataset, batch_size: int) -> None:
        self.dataset, self.batch_size, self.hessian = dataset, batch_size, hessian
        whole = dataset.train_size // batch_size
        self.batches = min(batches, whole)
        if self.batches < 2:
            raise RunError(
                f"probe=noise compares at least two batches, and has probe.noise.batches={batches} and {whole} whole "
                f"batches of {batch_size} images in an epoch: set more batches, or a smaller batch_size"
            )

    def look(self, objective: Objective, batch: Batch) -> Quantities:
        return between(objective, self._batches(), self.dataset.train_size, self.hessian)

    def at_step(self, h: Tensor | float | None) -> Quantities:
        return {}

    def _batches(self) -> Iterator[Batch]:
        return islice(self.dataset.train_batches(0, self.batch_size), self.batches)


def between(objective: Objective, batches: Iterable[Batch], pool: float, hessian: bool) -> Quantities:
    """The quantities of `Noise` between batches of equal size, drawn from `pool` images: infinite if independently."""
    squares, curvatures = [], []
    total: list[Tensor] = []
    with same_draws(objective.device, objective.past and objective.past.generators):
        for batch in batches:
            at = objective.redrawn()
            if hessian:
                _, g, hg = at.gradient_and_hg(batch)
                curvatures.append(inner(g, hg, torch.float64))
            else:
                _, g = at.gradient(batch)
            squares.append(inner(g, g, torch.float64))
            total = list(torch._foreach_add(total, g) if total else g)
            torch.rand(1, device=objective.device)  # the next batch has masks of its own, as in training
    count, mean_square = len(squares), torch.stack(squares).mean()
    square_of_mean = inner(total, total, torch.float64) / count**2
    spread = noise.spread(mean_square, square_of_mean, count)
    full = noise.squared_gradient(square_of_mean, spread, count, batch.images, pool)
    quantities = {
        records.BATCH_GRAD_NORM_SQ: mean_square,
        records.FULL_GRAD_NORM_SQ: full,
        records.GROWTH_RATIO: noise.growth_ratio(mean_square, full),
        records.NOISE_SCALE: noise.noise_scale(spread, full, batch.images),
    }
    if hessian:
        quantities[records.BATCH_SHARPNESS] = noise.batch_sharpness(torch.stack(curvatures), torch.stack(squares))
    return quantities
