"""Two problems from papers on stochastic Polyak steps. They are the same for every seed.

They are not standardised, because their inputs are part of their definition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from corridor_exp.datasets.resident import Arrays, NumericDataset
from corridor_exp.objective.batches import DataShape
from corridor_exp.objective.losses import half_squared_error

CONDITION_NUMBER = 1e5
SAMPLES = 1000
QUADRATICS = 100
DIMENSION = 100


def squared_error(outputs: Tensor, y: Tensor) -> Tensor:
    """The mean over the batch of ‖output − y‖², which is a sum over the outputs."""
    return 2 * half_squared_error(outputs, y)


def matrix_factorisation(**options: Any) -> NumericDataset:
    """Inputs x and targets Ax for the mean of ‖W₂W₁x − Ax‖² over 1,000 Gaussian x ∈ R⁶.

    Loizou et al. 2021, arXiv 2002.10542. `options` are those of `NumericDataset`.
    """
    x = np.random.default_rng(1).standard_normal((SAMPLES, 6))
    shape = DataShape(6, 1, 10, "none")
    return NumericDataset(
        Arrays(x, x @ ill_conditioned_matrix().T), None, shape, squared_error, standardise=False, **options
    )


def ill_conditioned_matrix() -> np.ndarray:
    """A ∈ R^{10×6} with condition number 10⁵: random singular vectors, evenly spaced singular values from 1 to 10⁻⁵.

    Rahimi and Recht, who posed the problem, scale the rows of a random square matrix by evenly spaced factors from 1 to
    10⁻⁵. For a 10 × 6 matrix, as in the code of Loizou et al., this gives a condition number near 20 only.
    """
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((rows, 6))).Q for rows in (10, 6))
    return left * np.linspace(1, 1 / CONDITION_NUMBER, 6) @ right.T


def quadratic(**options: Any) -> NumericDataset:
    """100 convex quadratics ½(θ − θᵢ*)ᵀHᵢ(θ − θᵢ*) in R¹⁰⁰ without a common minimiser (Orvieto et al. 2022).

    Row i is (Aᵢ, bᵢ) with Hᵢ = AᵢᵀAᵢ, and the quadratic is ½‖Aᵢθ − bᵢ‖². Each Hᵢ is the sample covariance of 300
    standard normal vectors, and each θᵢ* is standard normal. `options` are those of `NumericDataset`.
    """
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((QUADRATICS, 3 * DIMENSION, DIMENSION))
    H = samples.transpose(0, 2, 1) @ samples / (3 * DIMENSION)
    A = np.linalg.cholesky(H).transpose(0, 2, 1)
    b = (A @ rng.standard_normal((QUADRATICS, DIMENSION, 1)))[..., 0]
    shape = DataShape(1, DIMENSION, DIMENSION, "none")
    return NumericDataset(Arrays(A, b), None, shape, half_squared_error, standardise=False, **options)
