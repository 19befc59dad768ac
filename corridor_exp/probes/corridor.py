"""How far from a corridor: Hg on the training batch."""

from __future__ import annotations

import torch
from torch import Tensor

from corridor_exp import records
from corridor_exp.objective import Batch, Objective
from corridor_exp.probes.base import Quantities
from corridor_exp.theory.vectors import inner, norm


class Corridor:
    """Theorem 2.11: a region is a corridor exactly where Hg = 0.

    `probe/hg_norm` ‖Hg‖; `probe/corridor_index` E‖Hg‖/‖g‖³, which has no unit, is 0 in a corridor that reaches
    E = 0 and at least ½ on every convex quadratic with minimum 0; `probe/gradient_curvature` gᵀHg/‖g‖²;
    `probe/hg_ratio` h‖Hg‖/‖g‖ at the optimizer's own step h.

    All by autodiff in the parameters' own precision, norms in float64. On piecewise linear networks it sees the
    pieces and not the kinks between them, so Hg ≈ 0 there does not say that g stays constant over a step.
    """

    def look(self, objective: Objective, batch: Batch) -> Quantities:
        E, g, hg = objective.gradient_and_hg(batch)
        g_norm, hg_norm = norm(g), norm(hg)
        self.relative = hg_norm / g_norm
        return {
            records.HG_NORM: hg_norm,
            records.CORRIDOR_INDEX: E * self.relative / g_norm.square(),
            records.GRADIENT_CURVATURE: inner(g, hg, torch.float64) / g_norm.square(),
        }

    def at_step(self, h: Tensor | float | None) -> Quantities:
        return {} if h is None else {records.HG_RATIO: h * self.relative}
