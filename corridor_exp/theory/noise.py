"""How much the gradients of batches differ: pure functions of what K batches of B images each have told.

Symbols: g_B is the mean gradient of a batch, g that of all N images, Σ the covariance matrix of the gradients of single
images (with N − 1 in its denominator). The batches are drawn at random, disjoint as in an epoch: N is their pool. For
batches that are drawn independently N is infinite. All arguments and results are 0-dim float64 tensors.

What is without bias for ‖g‖² can be 0 or less where the noise is large. Ratios to it are NaN then.
"""

from __future__ import annotations

import torch
from torch import Tensor


def spread(mean_square: Tensor, square_of_mean: Tensor, count: int) -> Tensor:
    """tr Σ/B without bias, of the mean of ‖g_B‖² over K > 1 batches and of ‖ḡ‖², ḡ the mean of g_B."""
    return (mean_square - square_of_mean) * count / (count - 1)


def squared_gradient(square_of_mean: Tensor, spread: Tensor, count: int, images: int, pool: float) -> Tensor:
    """‖g‖² without bias: ‖ḡ‖² − (1/K − B/N)·tr Σ/B. It is ‖ḡ‖² where the batches are the whole pool."""
    return square_of_mean - spread * (1 / count - images / pool)


def growth_ratio(mean_square: Tensor, squared_gradient: Tensor) -> Tensor:
    """E‖g_B‖²/‖g‖²: at most ρ where the growth condition E‖g_B‖² ≤ ρ‖g‖² holds."""
    return _ratio(mean_square, squared_gradient)


def noise_scale(spread: Tensor, squared_gradient: Tensor, images: int) -> Tensor:
    """tr Σ/‖g‖², in images: the simple noise scale of McCandlish et al. (arXiv 1812.06162)."""
    return _ratio(images * spread, squared_gradient)


def batch_sharpness(curvatures: Tensor, squares: Tensor) -> Tensor:
    """E[g_Bᵀ H_B g_B]/E‖g_B‖² of g_Bᵀ H_B g_B and ‖g_B‖² by batch (Andreyev & Beneventano, arXiv 2412.20553)."""
    return _ratio(curvatures.mean(), squares.mean())


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below, torch.nan)
