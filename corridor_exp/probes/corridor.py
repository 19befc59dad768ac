"""The distance from a corridor: Hg, and the change of g and E over the step of the corridor learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from corridor_exp.objective import Batch, Objective
from corridor_exp.probes.base import ImageChoice, ProbeData, Quantities
from corridor_exp.runs import records
from corridor_exp.theory import measures, stepsizes
from corridor_exp.theory.measures import Vector
from corridor_exp.theory.vectors import inner, norm

if TYPE_CHECKING:
    from corridor_exp.datasets.base import Dataset


class Corridor:
    """Theorem 2.11: a region is a corridor exactly where Hg = 0. All names begin with `probe/`.

    Tangent quantities, by autodiff:
    - `hg_norm` = ‖Hg‖;
    - `corridor_index` = E‖Hg‖/‖g‖³, without a unit: 0 in a corridor that reaches E = 0, at least ½ on every convex
      quadratic with minimum 0;
    - `gradient_curvature` = gᵀHg/‖g‖²;
    - `hg_ratio` = h‖Hg‖/‖g‖ at the optimizer's own step h;
    - `layer_hg_norm/<layer>`: the part of ‖Hg‖ in the parameters of each layer.

    Secant quantities, over CLR's step `h` = E/‖g‖² for every optimizer, on the same images. The gradient is compared at
    the midpoint m = θ − ½hg, the loss at the end of the step:
    - `secant_hg_norm` = ‖g − g(m)‖/(½h);
    - `secant_cosine`: the cosine of g − g(m) with Hg;
    - `secant_corridor_index` = ‖g − g(m)‖/(½‖g‖);
    - `gradient_alignment` = ⟨g(m), g⟩/‖g‖²;
    - `decrease_ratio` = 1 − E(θ − hg)/E, null where E is less than 100 times its own rounding error. That error is the
      type's epsilon, because a logarithm of a sum of exponentials is a difference of numbers of order 1.

    Under momentum or Adam this step is hypothetical. `version` 2 names these definitions. Records without a version
    compared the gradient at the end of the step, where a corridor has none.

    Without `hessian` there is no Hg: no tangent quantity and no `secant_cosine`. Then a look at the step's batch costs
    one gradient and one forward pass, if training computes E and g as a look does: without autocast and compilation,
    on one rank. Elsewhere it costs one gradient more.

    In a network of ReLUs autodiff sees the linear pieces but not the kinks between them. The secant sees both. Autocast
    is off, and norms are in float64.
    """

    def __init__(
        self,
        images: ImageChoice = "batch",
        layers: bool = True,
        hessian: bool = True,
        *,
        dataset: Dataset | None = None,
        batch_size: int = 0,
    ) -> None:
        self.data, self.layers, self.hessian = ProbeData(images, dataset, batch_size), layers, hessian
        self.relative_hg = torch.zeros(())

    def look(self, objective: Objective, batch: Batch) -> Quantities:
        data = self.data.of(batch)
        if self.hessian:
            E, g, hg = objective.gradient_and_hg(data)
        else:
            E, g = objective.gradient(data)
        h = stepsizes.clr(E.double(), norm(g).square())
        _, g_midpoint = objective.gradient(data, measures.after(measures.MIDPOINT, objective.theta, g, h))
        change = torch._foreach_sub(g, g_midpoint)
        is_above_rounding = 100 * torch.finfo(E.dtype).eps < E
        decrease = measures.decrease_ratio(E, objective.loss(data, measures.after(1.0, objective.theta, g, h)))
        quantities = {
            records.PROBE_VERSION: torch.tensor(records.MIDPOINT_VERSION),
            records.CLR_STEP: h,
            records.SECANT_HG_NORM: norm(change) / (measures.MIDPOINT * h),
            records.SECANT_CORRIDOR_INDEX: measures.secant_corridor_index(g, g_midpoint),
            records.DECREASE_RATIO: torch.where(is_above_rounding, decrease, torch.nan),
            records.GRADIENT_ALIGNMENT: measures.gradient_alignment(g, g_midpoint),
        }
        return quantities | (self._tangent(E, g, hg, change, objective.names) if self.hessian else {})

    def _tangent(self, E: Tensor, g: Vector, hg: Vector, change: Vector, names: tuple[str, ...]) -> Quantities:
        g_norm, hg_norm = norm(g), norm(hg)
        self.relative_hg = hg_norm / g_norm
        return {
            records.HG_NORM: hg_norm,
            records.CORRIDOR_INDEX: measures.corridor_index(E, g, hg),
            records.GRADIENT_CURVATURE: inner(g, hg, torch.float64) / g_norm.square(),
            records.SECANT_COSINE: inner(change, hg, torch.float64) / (norm(change) * hg_norm),
        } | self._by_layer(names, hg)

    def at_step(self, h: Tensor | float | None) -> Quantities:
        return {records.HG_RATIO: h * self.relative_hg} if self.hessian and h is not None else {}

    def _by_layer(self, names: tuple[str, ...], hg: Vector) -> Quantities:
        parts: dict[str, list[Tensor]] = {}
        if self.layers:
            for name, part in zip(names, hg, strict=True):
                parts.setdefault(name.rpartition(".")[0] or name, []).append(part)
        return {records.LAYER_HG_NORM + layer: norm(part) for layer, part in parts.items()}
