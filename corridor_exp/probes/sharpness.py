"""The largest eigenvalues of the Hessian, and the edge of stability."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor

from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import Stream
from corridor_exp.probes.base import ImageChoice, ProbeData, Quantities
from corridor_exp.runs import records
from corridor_exp.theory.vectors import flat, like

if TYPE_CHECKING:
    from corridor_exp.datasets.base import Dataset

log = logging.getLogger(__name__)


class Sharpness:
    """`probe/sharpness` is λ₁ of H. `probe/sharpness_2` … `probe/sharpness_<count>` are the next largest eigenvalues.

    Lanczos' method (scipy's `eigsh`) computes them from Hessian products, to a relative error of `tolerance`. It starts
    from the same vector at every look, so that a resumed run has the same bits. The values are null, with one warning
    in a run, if Lanczos needs more than `max_restarts` restarts, if the Hessian is 0 or not finite, or if `count` is
    not below the number of parameters.

    `probe/stability_edge` is 2/h at the optimizer's step h. Gradient descent diverges on a quadratic whose sharpness is
    above it (Cohen et al., ICLR 2021).
    """

    def __init__(
        self,
        images: ImageChoice = "fixed",
        count: int = 1,
        tolerance: float = 1e-3,
        max_restarts: int = 300,
        *,
        dataset: Dataset | None = None,
        batch_size: int = 0,
    ) -> None:
        self.data, self.count = ProbeData(images, dataset, batch_size), count
        self.tolerance, self.max_restarts = tolerance, max_restarts
        self.warned = False

    def look(self, objective: Objective, batch: Batch) -> Quantities:
        values = np.full(self.count, np.nan)
        try:
            values = self.largest(objective, self.data.of(batch))
        except (ArpackError, ValueError, MemoryError) as error:
            if not self.warned:
                log.warning("probe=sharpness has no answer, and goes on as null: %s", error)
            self.warned = True
        names = [records.SHARPNESS, *(f"{records.SHARPNESS}_{i}" for i in range(2, self.count + 1))]
        return {name: torch.tensor(value) for name, value in zip(names, values, strict=True)}

    def largest(self, objective: Objective, data: Batch | Stream) -> np.ndarray:
        """The largest eigenvalues in descending order.

        Raises `ArpackError` if Lanczos has no answer, as for a Hessian of 0, and `ValueError` if it cannot start.
        """
        theta = objective.theta
        if any(p.is_complex() for p in theta):
            raise ValueError("complex parameters have no real Hessian here")
        n = sum(p.numel() for p in theta)
        if n <= self.count:
            raise ValueError(f"{self.count} eigenvalues by Lanczos need more than the {n} parameters")

        def product(v: np.ndarray) -> np.ndarray:
            direction = torch.as_tensor(v, device=objective.device).reshape(-1).to(theta[0].dtype)
            result: np.ndarray = flat(objective.hessian_product(data, like(direction, theta))).double().cpu().numpy()
            if not np.isfinite(result).all():
                raise ValueError("a product with the Hessian is not finite")
            return result

        H = LinearOperator((n, n), matvec=product, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(n)
        options = {"which": "LA", "v0": start, "tol": self.tolerance, "maxiter": self.max_restarts}
        found: np.ndarray = eigsh(H, k=self.count, return_eigenvectors=False, **options)
        return np.sort(found)[::-1]

    def at_step(self, h: Tensor | float | None) -> Quantities:
        return {} if h is None else {records.STABILITY_EDGE: 2 / torch.as_tensor(h)}
