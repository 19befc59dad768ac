"""The state of a training in a checkpoint: all that a resumed run needs to continue with the same bits."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim.lr_scheduler import LRScheduler

from corridor_exp.datasets.base import Dataset
from corridor_exp.objective import Objective
from corridor_exp.objective.ranks import cut_like, whole
from corridor_exp.optim import GuardedOptimizer
from corridor_exp.runs.records import Metrics

State = dict[str, Any]


@dataclass
class Progress:
    """The position of a run: `step` updates are done, and the first `images` in the order of the current epoch.

    `seen` of them could be read: all, unless a data set leaves out damaged ones.
    """

    step: int = 0
    epoch: int = 0
    images: int = 0
    seen: int = 0
    seconds: float = 0.0
    pending: Metrics = field(default_factory=dict)  # the metrics of the newest step, until its record is emitted
    last: Metrics = field(default_factory=dict)  # the newest value of every metric
    best: float = -math.inf  # the highest score so far: see `Engine._is_best`
    passes: int = 0  # what the updates have cost, in forward passes: see `objective.cost`
    began: int = 0  # the step at which this run began: above 0 in a fork
    inherited: int = 0  # the passes that were done before it began

    def next_epoch(self) -> None:
        self.epoch, self.images, self.seen = self.epoch + 1, 0, 0


@dataclass(frozen=True)
class Renewed:
    """The parts that a run does not take from the state of another run."""

    micro_batch: bool = False
    random_numbers: bool = False
    optimizer: bool = False  # it begins with an empty memory
    options: frozenset[str] = frozenset()  # keys of the optimizer's groups
    schedule: bool = False  # and with it the learning rate
    losses: bool = False  # E is another function: the mean of the epoch begins anew
    best: bool = False  # the highest score so far


class Resumable:
    """The part of an `Engine` that a checkpoint holds."""

    objective: Objective
    dataset: Dataset
    optimizer: GuardedOptimizer
    schedule: LRScheduler | None
    scaler: GradScaler | None
    progress: Progress
    loss_sum: Tensor
    started: float

    def state_dict(self) -> State:
        """The state, only tensors and plain values. All ranks call it."""
        objective, device, ranks = self.objective, self.objective.device, self.objective.ranks
        self.progress.seconds = time.perf_counter() - self.started
        return {
            "progress": asdict(self.progress),
            "micro_batch": objective.micro_batch,
            "loss_sum": self.loss_sum,
            "skipped": sorted(self.dataset.skipped),
            "model": whole(objective.model.state_dict()),
            "optimizer": whole(self.optimizer.state_dict()),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "rng": ranks.gathered(torch.get_rng_state()),
            "cuda_rng": ranks.gathered(torch.cuda.get_rng_state(device)) if device.type == "cuda" else None,
        }

    def load_state_dict(self, state: State, renewed: Renewed = Renewed()) -> None:
        """Continue from a state, except for what is `renewed`."""
        objective = self.objective
        self.progress = Progress(**state["progress"])
        self.loss_sum.copy_(state["loss_sum"])
        if renewed.losses:
            self.loss_sum.zero_()
            self.progress.seen = 0
        if renewed.best:
            self.progress.best = -math.inf
        self.dataset.skipped = set(state.get("skipped", ()))
        if not renewed.micro_batch:
            objective.micro_batch = state["micro_batch"]
        params = dict(objective.model.named_parameters())
        objective.model.load_state_dict({k: cut_like(v, params.get(k)) for k, v in state["model"].items()})
        if not renewed.optimizer:
            self._load_optimizer(state["optimizer"], renewed)
        if self.schedule and renewed.schedule:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch expects a step of the optimizer in between
                for _ in range(self.progress.step):
                    self.schedule.step()
        elif self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        if self.scaler and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if not renewed.random_numbers and len(state["rng"]) == objective.ranks.size:
            torch.set_rng_state(state["rng"][objective.ranks.rank])
            if state["cuda_rng"] is not None and objective.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda_rng"][objective.ranks.rank], objective.device)

    def _load_optimizer(self, state: State, renewed: Renewed) -> None:
        """Load the optimizer's memory, sharded like its parameters, and the options of its groups."""
        own_groups = self.optimizer.param_groups
        params = [p for group in own_groups for p in group["params"]]
        memory = {
            i: {key: cut_like(value, params[i]) for key, value in of_one.items()} if isinstance(i, int) else of_one
            for i, of_one in state["state"].items()
        }
        self.optimizer.load_state_dict({**state, "state": memory})
        options = renewed.options | ({"lr", "initial_lr"} if renewed.schedule else set())
        for loaded, own in zip(self.optimizer.param_groups, own_groups, strict=True):
            loaded.update({key: own[key] for key in options & own.keys()})
