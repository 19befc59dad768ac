"""The cost of a run, measured on a few of its steps. Writes no file."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from corridor_exp.config.schema import Config
from corridor_exp.engine.build import build_engine
from corridor_exp.engine.first_batch import first_batch
from corridor_exp.engine.loop import TEST_BATCH, Engine

ENOUGH = 3.0  # seconds of steps
WARM_UP = 2  # steps without timing: the first ones choose kernels, fill caches and compile
SLOW = 10.0  # seconds: a first look or test on a CPU that takes longer is not repeated


@dataclass(frozen=True)
class Estimate:
    """Seconds of one step, one look of the probes and one evaluation, the number of each, and the memory in bytes."""

    batch_size: int
    step: float
    steps: int
    look: float
    looks: int
    evaluation: float
    evaluations: int
    memory: int
    device: str

    @property
    def seconds(self) -> float:
        """Of the whole run, but for its start."""
        return self.step * self.steps + self.look * self.looks + self.evaluation * self.evaluations


PHASES = ("building", "warming up", "training", "looking", "testing")


def estimate(config: Config, begins: Callable[[str], object] = lambda phase: None) -> Estimate:
    """Train for a few seconds, look once, and test one batch. The memory is the peak of the device or the process.

    `begins` is called with each of `PHASES` when it begins.
    """
    begins("building")
    with suppress(OSError):  # of the process, which other estimates may have made larger; only Linux can forget it
        Path("/proc/self/clear_refs").write_text("5")
    engine = build_engine(config)
    if is_cuda := engine.objective.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(engine.objective.device)
    plan, objective, dataset, steps = engine.plan, engine.objective, engine.dataset, engine.total_steps
    epochs = -(-steps // engine.steps_per_epoch)
    probes = engine.probes
    step = _step(engine, begins)
    begins("looking")
    batch = first_batch(engine)
    look = _warm_seconds(engine, lambda: [probe.look(objective, batch) for probe in probes]) if probes else 0.0
    begins("testing")
    tested = next(iter(dataset.test_batches(TEST_BATCH)), None)
    a_test = _warm_seconds(engine, lambda: tested and objective.evaluate(tested))
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Estimate(
        batch_size=plan.batch_size,
        step=step,
        steps=steps,
        look=look,
        looks=math.ceil(min(steps, plan.probe_until) / plan.probe_every) if probes else 0,
        evaluation=a_test * dataset.test_size / TEST_BATCH if dataset.test_size > TEST_BATCH else a_test,
        evaluations=-(-epochs // plan.eval_every) if dataset.test_size else 0,
        memory=torch.cuda.max_memory_allocated(objective.device) if is_cuda else resident,
        device=torch.cuda.get_device_name(objective.device) if is_cuda else f"{torch.get_num_threads()} CPU threads",
    )


def _step(engine: Engine, begins: Callable[[str], object]) -> float:
    """The mean seconds of a step, without probes and evaluations."""
    begins("warming up")
    _train_until(engine, lambda step: step >= WARM_UP)
    begins("training")
    steps: list[int] = []
    begun = time.perf_counter()
    seconds = _seconds(
        engine, lambda: steps.append(_train_until(engine, lambda step: time.perf_counter() - begun > ENOUGH))
    )
    return seconds / steps[0]


def _train_until(engine: Engine, enough: Callable[[int], bool]) -> int:
    """Train without an end until the number of steps is `enough`. Returns this number."""
    timed = Engine(
        engine.objective,
        engine.dataset,
        engine.optimizer,
        replace(engine.plan, epochs=10**9, max_steps=None, eval_every=10**9, target_loss=None),
        schedule=engine.schedule,
        scaler=engine.scaler,
        should_stop=lambda: enough(timed.progress.step),
    )
    timed.train()
    return timed.progress.step


def _warm_seconds(engine: Engine, work: Callable[[], object]) -> float:
    """The seconds of the second call of `work`, or of the first if that is slow and on a CPU."""
    first = _seconds(engine, work)
    return first if first > SLOW and engine.objective.device.type == "cpu" else _seconds(engine, work)


def _seconds(engine: Engine, work: Callable[[], object]) -> float:
    _wait_for(engine)
    begun = time.perf_counter()
    work()
    _wait_for(engine)
    return time.perf_counter() - begun


def _wait_for(engine: Engine) -> None:
    if engine.objective.device.type == "cuda":
        torch.cuda.synchronize(engine.objective.device)
