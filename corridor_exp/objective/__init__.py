"""E(θ), its gradient and its Hessian products on a batch: the one place where a loss is evaluated."""

from corridor_exp.objective.batches import Batch
from corridor_exp.objective.objective import Objective

__all__ = ["Batch", "Objective"]
