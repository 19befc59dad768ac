"""A micro-batch that fits into the device's memory."""

from __future__ import annotations

import logging

from torch.nn.modules.batchnorm import _BatchNorm

from corridor_exp.engine.loop import Engine
from corridor_exp.errors import RunError

log = logging.getLogger(__name__)


def fit_to_memory(engine: Engine) -> None:
    """Halve the micro-batch on all ranks until the first batch fits into memory. Changes nothing else.

    Raises `RunError` if one image is already too much. Does nothing for a sharded model, which no look can measure.
    """
    objective, ranks = engine.objective, engine.ranks
    if objective.is_sharded:
        return
    batch = next(iter(engine.dataset.train_batches(0, engine.plan.batch_size)))
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
