"""The top of the Hessian's spectrum, and the edge of stability."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from corridor_exp import records
from corridor_exp.datasets.base import Dataset
from corridor_exp.objective import Batch, Objective
from corridor_exp.probes.base import Quantities, Subject, Which
from corridor_exp.theory.vectors import flat, like


class Sharpness:
    """`probe/sharpness`, λ₁ of H, and `probe/sharpness_2` … `probe/sharpness_<count>`, the next largest eigenvalues.

    By Lanczos (scipy's `eigsh`) on Hessian products, to a relative error of `tolerance`, warm-started from the
    eigenvector of the look before. Null if that takes more than `max_restarts` restarts. `probe/stability_edge` is 2/h
    at the optimizer's step h: gradient descent on a quadratic of sharpness above it grows (Cohen et al., ICLR 2021).
    """

    def __init__(
        self,
        images: Which = "fixed",
        count: int = 1,
        tolerance: float = 1e-3,
        max_restarts: int = 300,
        *,
        dataset: Dataset | None = None,
        batch_size: int = 0,
    ) -> None:
        self.subject, self.count = Subject(images, dataset, batch_size), count
        self.tolerance, self.max_restarts = tolerance, max_restarts
        self.start: np.ndarray | None = None

    def look(self, objective: Objective, batch: Batch) -> Quantities:
        images, theta = self.subject.of(batch), objective.theta

        def product(v: np.ndarray) -> np.ndarray:
            direction = torch.as_tensor(v, device=objective.device).reshape(-1).to(theta[0].dtype)
            result: np.ndarray = flat(objective.hessian_product(images, like(direction, theta))).double().cpu().numpy()
            return result

        n = sum(p.numel() for p in theta)
        H = LinearOperator((n, n), matvec=product, dtype=np.float64)
        start = self.start if self.start is not None else np.random.default_rng(0).standard_normal(n)
        values = np.full(self.count, np.nan)
        try:
            lanczos = {"which": "LA", "v0": start, "tol": self.tolerance, "maxiter": self.max_restarts}
            found, vectors = eigsh(H, k=self.count, **lanczos)
            values, self.start = np.sort(found)[::-1], vectors[:, -1]
        except ArpackNoConvergence:
            pass
        names = [records.SHARPNESS, *(f"{records.SHARPNESS}_{i}" for i in range(2, self.count + 1))]
        return {name: torch.tensor(value) for name, value in zip(names, values, strict=True)}

    def at_step(self, h: Tensor | float | None) -> Quantities:
        return {} if h is None else {records.STABILITY_EDGE: 2 / torch.as_tensor(h)}
