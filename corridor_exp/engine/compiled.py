"""Compiled code, which must train like the model that it was made of."""

from __future__ import annotations

import logging

import torch

from corridor_exp.engine.loop import Engine
from corridor_exp.errors import RunError

log = logging.getLogger(__name__)
LARGEST_ERROR = {None: 0.01, torch.bfloat16: 0.1, torch.float16: 0.1}  # of rounding, by autocast's type


def check_compiled(engine: Engine) -> None:
    """Compare the gradients of the compiled and of the plain model on the first batch, at the initial parameters.

    Raises `RunError` if they differ by more than rounding. Changes nothing. Does nothing for a sharded model, which no
    look can measure.
    """
    objective = engine.objective
    if objective.is_sharded:
        return
    error = objective.forward_error(next(iter(engine.dataset.train_batches(0, engine.plan.batch_size))))
    if not error <= LARGEST_ERROR[objective.precision]:
        raise RunError(
            f"engine.compile=true: on the first batch the compiled model's gradient differs from the model's by "
            f"{error:.2g} of its norm; set engine.compile=false"
        )
    log.info("the compiled model's gradient differs from the model's by %.1e of its norm", error)
