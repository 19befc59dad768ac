"""How far from a corridor: Hg, and the change of g and E over the corridor learning rate's own step."""

from __future__ import annotations

import torch
from torch import Tensor

from corridor_exp import records
from corridor_exp.datasets.base import Dataset
from corridor_exp.objective import Batch, Objective
from corridor_exp.probes.base import Quantities, Subject, Which
from corridor_exp.theory import stepsizes
from corridor_exp.theory.vectors import inner, norm


class Corridor:
    """Theorem 2.11: a region is a corridor exactly where Hg = 0. All names are `probe/…`.

    Tangent, by autodiff: `hg_norm` ‖Hg‖; `corridor_index` E‖Hg‖/‖g‖³, which has no unit, is 0 in a corridor that
    reaches E = 0 and at least ½ on every convex quadratic with minimum 0; `gradient_curvature` gᵀHg/‖g‖²; `hg_ratio`
    h‖Hg‖/‖g‖ at the optimizer's own step h; `layer_hg_norm/<layer>`, the part of ‖Hg‖ in each layer's parameters.

    Secant, over CLR's step `h` = E/‖g‖² whatever the optimizer, on the same images, with θ′ = θ − hg:
    `secant_hg_norm` ‖g − g(θ′)‖/h; `secant_cosine`, of g − g(θ′) with Hg; `secant_corridor_index` ‖g − g(θ′)‖/‖g‖;
    `decrease_ratio` 1 − E(θ′)/E; `gradient_alignment` ⟨g(θ′), g⟩/‖g‖². Under momentum or Adam θ′ is hypothetical.

    In a network of ReLUs autodiff sees the linear pieces and not the kinks between them; the secant sees both.

    Autocast is off, norms are in float64. The decrease ratio is null where E is less than 100 times its own rounding
    error (the type's epsilon, as a logarithm of a sum of exponentials is a difference of numbers of order 1).
    """

    def __init__(
        self, images: Which = "batch", layers: bool = True, *, dataset: Dataset | None = None, batch_size: int = 0
    ) -> None:
        self.subject, self.layers = Subject(images, dataset, batch_size), layers
        self.relative = torch.zeros(())

    def look(self, objective: Objective, batch: Batch) -> Quantities:
        images = self.subject.of(batch)
        E, g, hg = objective.gradient_and_hg(images)
        g_norm, hg_norm = norm(g), norm(hg)
        self.relative = hg_norm / g_norm
        h = stepsizes.clr(E.double(), g_norm.square())
        moved = [p - h.to(p.dtype) * t for p, t in zip(objective.theta, g, strict=True)]
        E_moved, g_moved = objective.gradient(images, moved)
        change = [a - b for a, b in zip(g, g_moved, strict=True)]
        change_norm = norm(change)
        told_apart = 100 * torch.finfo(E.dtype).eps < E
        seen = {
            records.HG_NORM: hg_norm,
            records.CORRIDOR_INDEX: h * self.relative,
            records.GRADIENT_CURVATURE: inner(g, hg, torch.float64) / g_norm.square(),
            records.CLR_STEP: h,
            records.SECANT_HG_NORM: change_norm / h,
            records.SECANT_COSINE: inner(change, hg, torch.float64) / (change_norm * hg_norm),
            records.SECANT_CORRIDOR_INDEX: change_norm / g_norm,
            records.DECREASE_RATIO: torch.where(told_apart, 1 - E_moved.double() / E.double(), torch.nan),
            records.GRADIENT_ALIGNMENT: inner(g_moved, g, torch.float64) / g_norm.square(),
        }
        return seen | self._by_layer(objective.names, hg)

    def at_step(self, h: Tensor | float | None) -> Quantities:
        return {} if h is None else {records.HG_RATIO: h * self.relative}

    def _by_layer(self, names: tuple[str, ...], hg: tuple[Tensor, ...]) -> Quantities:
        parts: dict[str, list[Tensor]] = {}
        if self.layers:
            for name, part in zip(names, hg, strict=True):
                parts.setdefault(name.rpartition(".")[0] or name, []).append(part)
        return {records.LAYER_HG_NORM + layer: norm(part) for layer, part in parts.items()}
