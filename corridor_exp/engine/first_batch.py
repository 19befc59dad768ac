"""What is checked on the first batch, before the first step. A sharded model is not, as no look can measure it."""

from __future__ import annotations

import logging

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from corridor_exp.engine.loop import Engine
from corridor_exp.errors import RunError
from corridor_exp.objective import Batch

log = logging.getLogger(__name__)
LARGEST_ERROR = {None: 0.01, torch.bfloat16: 0.1, torch.float16: 0.1}  # of rounding, by autocast's type


def first_batch(engine: Engine) -> Batch:
    """The first batch of the first epoch."""
    return next(iter(engine.dataset.train_batches(0, engine.plan.batch_size)))


def fit_to_memory(engine: Engine) -> None:
    """Halve the micro-batch on all ranks until the batch fits into memory. Raises `RunError` if one image does not."""
    objective, ranks = engine.objective, engine.ranks
    if objective.is_sharded:
        return
    batch = first_batch(engine)
    part = -(-batch.images // ranks.size)
    hessian = any(getattr(probe, "hessian", True) for probe in engine.probes)  # a probe that does not say may
    while ranks.any(not objective.fits(batch, hessian))[0]:
        size = min(objective.micro_batch or part, part)
        if size == 1:
            raise RunError("out of memory, even with engine.micro_batch=1: take a smaller model, or probe=none")
        objective.micro_batch = size = size // 2
        log.warning("out of memory: going on with engine.micro_batch=%d; the batch stays what it is", size)
        if any(isinstance(module, _BatchNorm) for module in objective.model.modules()):
            log.warning("batch norm sees smaller batches now, so that E is not the same function as before")


def check_compiled(engine: Engine) -> None:
    """Raise `RunError` if the compiled model's gradient differs from the model's by more than rounding."""
    objective = engine.objective
    if objective.is_sharded:
        return
    error = objective.forward_error(first_batch(engine))
    if not error <= LARGEST_ERROR[objective.precision]:
        raise RunError(
            f"engine.compile=true: on the first batch the compiled model's gradient differs from the model's by "
            f"{error:.2g} of its norm; set engine.compile=false"
        )
    log.info("the compiled model's gradient differs from the model's by %.1e of its norm", error)
