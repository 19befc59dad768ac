"""What a run will cost, from a few of its steps. Writes nothing."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from corridor_exp.config.schema import Config
from corridor_exp.engine.build import build_engine
from corridor_exp.engine.loop import TEST_BATCH, Engine

ENOUGH = 3.0  # seconds of steps
WARM_UP = 2  # steps that are not timed: the first ones choose kernels, fill caches and compile
SLOW = 10.0  # seconds beyond which a CPU's first look or test is timed as it is: it is not done again


@dataclass(frozen=True)
class Estimate:
    """Times in seconds, of one step, one look of the probes and one evaluation; how many of each; memory in bytes."""

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
    """Train for a few seconds, look once, and test one batch. The memory is this process's or the device's peak.

    `begins` is told each of `PHASES` as it begins.
    """
    begins("building")
    engine = build_engine(config)
    plan, objective, dataset, steps = engine.plan, engine.objective, engine.dataset, engine.total_steps
    epochs = -(-steps // engine.steps_per_epoch)
    probes = engine.probes
    step = _step(engine, begins)
    begins("looking")
    batch = next(iter(dataset.train_batches(0, plan.batch_size)))
    look = _warm_seconds(engine, lambda: [probe.look(objective, batch) for probe in probes]) if probes else 0.0
    begins("testing")
    tested = next(iter(dataset.test_batches(TEST_BATCH)), None)
    a_test = _warm_seconds(engine, lambda: tested and objective.evaluate(tested))
    is_cuda = objective.device.type == "cuda"
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
    """Train the parts of an engine, under a plan without end, until so many steps are `enough`; return how many."""
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
    """Of the second time that `work` is done; of the first, where that is slow enough on a CPU to drown its start."""
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
