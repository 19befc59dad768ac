"""What the engine asks of a probe."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from corridor_exp.objective import Batch, Objective

Quantities = dict[str, Tensor]


class Probe(Protocol):
    """Quantities by the names of `records`, as 0-dim tensors on the objective's device: nothing here may sync."""

    def look(self, objective: Objective, batch: Batch) -> Quantities:
        """Measure at θ, before the optimizer's update."""
        ...

    def at_step(self, h: Tensor | float | None) -> Quantities:
        """What only follows once the optimizer has chosen its step h; None if it has no such number."""
        ...
