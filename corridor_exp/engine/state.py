"""What a checkpoint holds of a training: all that a resumed run needs to go on with the same bits."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from corridor_exp.objective.ranks import cut_like, whole
from corridor_exp.runs.records import Metrics

if TYPE_CHECKING:
    from corridor_exp.engine.loop import Engine

State = dict[str, Any]


@dataclass
class Progress:
    """Where a run stands: `step` updates are done, and the first `images` of the current epoch's order.

    `seen` are those of them that could be read: all, unless a data set leaves out damaged ones.
    """

    step: int = 0
    epoch: int = 0
    images: int = 0
    seen: int = 0
    seconds: float = 0.0
    pending: Metrics = field(default_factory=dict)  # of the newest step, until its record is written
    last: Metrics = field(default_factory=dict)  # the newest value of every metric
    best: float = -math.inf  # the highest score so far: see `Engine._is_best`
    passes: int = 0  # what the updates have cost, in forward passes: see `objective.cost`
    began: int = 0  # the step at which this run began: above 0 in a fork


@dataclass(frozen=True)
class Renewed:
    """What a run has of its own although it goes on from the state of another; the rest it takes from the state."""

    micro_batch: bool = False
    random_numbers: bool = False
    optimizer: bool = False  # it begins without a memory
    options: frozenset[str] = frozenset()  # keys of the optimizer's groups
    schedule: bool = False  # and with it the learning rate


def state_dict(engine: Engine) -> State:
    """The state as tensors and plain values only. All ranks call it alike."""
    objective, device, ranks = engine.objective, engine.objective.device, engine.ranks
    engine.progress.seconds = time.perf_counter() - engine.started
    return {
        "progress": asdict(engine.progress),
        "micro_batch": objective.micro_batch,
        "loss_sum": engine.loss_sum,
        "model": whole(objective.model.state_dict()),
        "optimizer": whole(engine.optimizer.state_dict()),
        "schedule": engine.schedule.state_dict() if engine.schedule else None,
        "scaler": engine.scaler.state_dict() if engine.scaler else None,
        "rng": ranks.gathered(torch.get_rng_state()),
        "cuda_rng": ranks.gathered(torch.cuda.get_rng_state(device)) if device.type == "cuda" else None,
    }


def load_state_dict(engine: Engine, state: State, renewed: Renewed) -> None:
    """Let the engine go on from a state, but for what is `renewed`."""
    objective = engine.objective
    engine.progress = Progress(**state["progress"])
    engine.loss_sum.copy_(state["loss_sum"])
    if not renewed.micro_batch:
        objective.micro_batch = state["micro_batch"]
    params = dict(objective.model.named_parameters())
    objective.model.load_state_dict({k: cut_like(v, params.get(k)) for k, v in state["model"].items()})
    if not renewed.optimizer:
        _load_optimizer(engine, state["optimizer"], renewed)
    if engine.schedule and renewed.schedule:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch expects a step of the optimizer before each of the schedule
            for _ in range(engine.progress.step):
                engine.schedule.step()
    elif engine.schedule:
        engine.schedule.load_state_dict(state["schedule"])
    if engine.scaler and state["scaler"]:
        engine.scaler.load_state_dict(state["scaler"])
    if not renewed.random_numbers and len(state["rng"]) == engine.ranks.size:
        torch.set_rng_state(state["rng"][engine.ranks.rank])
        if state["cuda_rng"] is not None and objective.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"][engine.ranks.rank], objective.device)


def _load_optimizer(engine: Engine, state: State, renewed: Renewed) -> None:
    """The optimizer's memory, sharded as the parameters are that it belongs to, and the options of its groups."""
    own_groups = engine.optimizer.param_groups
    params = [p for group in own_groups for p in group["params"]]
    memory = {
        i: {key: cut_like(value, params[i]) for key, value in of_one.items()} if isinstance(i, int) else of_one
        for i, of_one in state["state"].items()
    }
    engine.optimizer.load_state_dict({**state, "state": memory})
    options = renewed.options | ({"lr", "initial_lr"} if renewed.schedule else set())
    for loaded, own in zip(engine.optimizer.param_groups, own_groups, strict=True):
        loaded.update({key: own[key] for key in options & own.keys()})
