"""The growth condition E‖g_B‖² ≤ ρ‖g‖² + δ along a run: the tightest ρ and δ that hold at its looks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog

from corridor_exp.runs import records
from corridor_exp.runs.records import Record


def growth_condition(full: Sequence[float], batch: Sequence[float]) -> tuple[float, float]:
    """ρ, δ ≥ 0 with batch ≤ ρ full + δ at every look, where the right side exceeds the left the least.

    `full` are ‖g‖², `batch` E‖g_B‖², all positive. The excess is the mean over the looks of (ρ full + δ)/batch, so that
    late looks, where both are small, count as much as early ones. It is a linear program.
    """
    y = np.asarray(batch)
    unit = y.min()  # of δ: the numbers of a run span many orders
    shares = np.stack([np.asarray(full) / y, unit / y], axis=1)
    rho, delta = linprog(shares.mean(0), A_ub=-shares, b_ub=-np.ones_like(y)).x
    return float(rho), float(delta * unit)


def sentence(looks: Sequence[Record]) -> str | None:
    """The condition in words, with the number of its looks. None if no look has a finite ratio of `probe=noise`."""
    noisy = [r for r in looks if math.isfinite(r.get(records.GROWTH_RATIO) or math.nan)]
    if not noisy:
        return None
    rho, delta = growth_condition(
        *([r[k] for r in noisy] for k in (records.FULL_GRAD_NORM_SQ, records.BATCH_GRAD_NORM_SQ))
    )
    return f"growth condition at {len(noisy)} looks: E‖g_B‖² ≤ {rho:.3g} ‖g‖² + {delta:.3g}"
