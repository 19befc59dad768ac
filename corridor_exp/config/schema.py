"""A run's configuration: its keys and their types. Knows no torch.

Hydra composes (`config.compose`), and this module checks. `Config.parse` turns the composed dictionary into a frozen
object. The rest of the package sees only this object.

The class of a group lists all keys of the group. A key means the same in every option. The YAML file of an option
decides which keys the option has, and their values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from corridor_exp.config import secrets, targets
from corridor_exp.config.component import ABSENT, Component, Strict
from corridor_exp.config.differences import fingerprint, identity
from corridor_exp.config.mistakes import first_problem, unknown_key
from corridor_exp.config.options import our_option, our_targets
from corridor_exp.config.threads import available_threads
from corridor_exp.config.values import (
    Account,
    BatchSize,
    Count,
    Deviations,
    Device,
    Finite,
    Fraction,
    Fractions,
    HeldOut,
    ImageSize,
    Interval,
    LossName,
    Means,
    NonNegative,
    OpenFraction,
    PathStr,
    Positive,
    RunPath,
    Seed,
    Slug,
    Threads,
    Whole,
)
from corridor_exp.errors import UsageError


class Dataset(Component):
    root: PathStr = ABSENT
    test: PathStr | None = ABSENT
    download: bool = ABSENT
    train_size: Count | None = ABSENT
    test_size: Count | None = ABSENT
    held_out: HeldOut | None = ABSENT
    label_noise: Fraction = ABSENT
    image_size: ImageSize = ABSENT
    augment: bool = ABSENT
    drop_last: bool = ABSENT
    skip_corrupt: bool = ABSENT
    workers: Whole = ABSENT
    mean: Means = ABSENT
    std: Deviations = ABSENT


class Model(Component):
    width: Count = ABSENT
    depth: Count = ABSENT
    activation: Literal["relu", "silu", "gelu", "softplus", "tanh"] = ABSENT
    norm: Literal["batch", "group", "none"] = ABSENT
    stem: Literal["auto", "small", "pooled", "imagenet"] = ABSENT
    dropout: Fraction = ABSENT
    init: Literal["torch", "kaiming", "kaiming_fan_in", "haiku"] = ABSENT
    zero_init: bool = ABSENT


class Schedule(Strict):
    name: Literal["constant", "cosine"]
    warmup: Whole = ABSENT
    period: Count | None = ABSENT
    period_factor: Count = ABSENT
    min_lr: NonNegative = ABSENT


class Optimizer(Component):
    lr: NonNegative = ABSENT
    momentum: Fraction = ABSENT
    nesterov: bool = ABSENT
    weight_decay: NonNegative = ABSENT
    betas: Fractions = ABSENT
    eps: NonNegative = ABSENT
    scale: Positive = ABSENT
    sigma: Positive = ABSENT
    safeguard: Positive = ABSENT
    step_cap: Positive | None = ABSENT
    f_star: Finite = ABSENT
    c: Positive = ABSENT
    smooth: bool = ABSENT
    initial_step: Positive = ABSENT
    growth: Positive = ABSENT
    decrease: OpenFraction = ABSENT
    shrink: OpenFraction = ABSENT
    adaptive: bool = ABSENT
    horizon: Count = ABSENT
    power: Positive = ABSENT
    curvature: Literal["autodiff", "secant"] = ABSENT
    offset: Positive = ABSENT
    beta: Fraction = ABSENT
    d0: Positive = ABSENT
    reps_rel: Positive = ABSENT
    s_decay: NonNegative = ABSENT
    s_init: Positive = ABSENT
    warmup_steps: Whole = ABSENT
    schedule: Schedule | None = ABSENT

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Optimizer:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=true needs momentum above 0")
        return self


class Probe(Component):
    images: Literal["batch", "fixed", "train"] = ABSENT
    layers: bool = ABSENT
    hessian: bool = ABSENT
    batches: Count = ABSENT
    count: Count = ABSENT
    tolerance: Positive = ABSENT
    max_restarts: Count = ABSENT
    steps: Count = ABSENT
    scale: Positive = ABSENT
    h: Positive | None = ABSENT
    rtol: Positive = ABSENT
    max_evaluations: Count = ABSENT


class Logger(Component):
    mode: Literal["offline", "online"] = ABSENT
    project: Account = ABSENT
    entity: Account | None = ABSENT
    api_key: str | None = ABSENT


class Probes(BaseModel):
    """The chosen probes by name, such as those of `probe=[corridor,sharpness]`, and their common keys."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, defer_build=True)
    __pydantic_extra__: dict[str, Probe]
    every: Count
    until: Count | None = None

    def components(self) -> dict[str, Probe]:
        return dict(self.__pydantic_extra__)


class Engine(Strict):
    device: Device
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    channels_last: bool | Literal["auto"]
    compile: bool
    sync_batch_norm: bool
    shard: bool
    micro_batch: Count | None
    threads: Threads | None
    tf32: bool


class Checkpoint(Strict):
    every: Interval
    keep: Count
    best: Literal["train/epoch_loss", "test/loss", "test/accuracy"] | None


class Resume(Strict):
    override: bool


class Config(Strict):
    """Everything that decides a run."""

    seed: Seed
    batch_size: BatchSize
    epochs: Count
    max_steps: Count | None
    target_loss: Positive | None
    loss: LossName = "auto"
    l2: NonNegative
    log_every: Count
    eval_every: Count
    name: Slug
    out_dir: RunPath | None
    fork_from: RunPath | None
    dataset: Dataset
    model: Model
    optim: Optimizer
    probe: Probes
    engine: Engine
    logger: dict[str, Logger]
    checkpoint: Checkpoint
    resume: Resume

    @classmethod
    def parse(cls, composed: Mapping[str, Any], choices: Mapping[str, str] | None = None) -> Config:
        """Check a configuration, composed or stored. Raises `UsageError`, one line, for the first thing wrong.

        `choices` is the chosen option of each group. Without it the name of the option says this. The key
        `allow_targets`, which runs of older versions have, is ignored.
        """
        secrets.learn(composed)
        try:
            config = cls.model_validate({key: value for key, value in composed.items() if key != targets.SETTING})
        except ValidationError as error:
            raise UsageError(first_problem(error, composed)) from None
        if config.optim.adaptive and config.batch_size != "full":
            raise UsageError("optim.adaptive=true needs the whole loss at every step: set batch_size=full")
        if "." in config.loss:
            targets.check(config.loss, (), "loss")
        for key, component in config.components().items():
            targets.check(component.target, our_targets(), f"{key}._target_")
            for name in _unknown(key, component, choices or {}):
                raise UsageError(unknown_key(f"{key}.{name}", composed))
        if config.engine.threads is None:
            engine = config.engine.model_copy(update={"threads": available_threads()})
            config = config.model_copy(update={"engine": engine})
        return config

    def components(self) -> dict[str, Component]:
        """Everything with a `_target_`, by its key."""
        return {
            "dataset": self.dataset,
            "model": self.model,
            "optim": self.optim,
            **{f"probe.{name}": probe for name, probe in self.probe.components().items()},
            **{f"logger.{name}": logger for name, logger in self.logger.items()},
        }

    def public(self) -> dict[str, Any]:
        """All keys that were set, without secrets. Only this is written to files, consoles and mirrors."""
        public: dict[str, Any] = secrets.redact(self.model_dump(exclude_unset=True))
        return public

    def identity(self) -> dict[str, Any]:
        """What decides whether two runs are the same: all but where a run lies and whether changes are accepted."""
        return identity(self.model_dump(exclude_unset=True))

    def parent(self) -> tuple[Path, str] | None:
        """The run directory of `fork_from=RUN[@CHECKPOINT]`, and which checkpoint: a step, `best` or `newest`."""
        if self.fork_from is None:
            return None
        run, which = re.fullmatch(r"(.*?)(?:@(\d+|best))?", self.fork_from, re.DOTALL).groups()  # type: ignore[union-attr]
        return Path(run).expanduser(), which or "newest"

    def run_id(self) -> str:
        return f"{self.optim.name or 'run'}-seed{self.seed}-{fingerprint([self.identity()])}"


def _unknown(key: str, component: Component, choices: Mapping[str, str]) -> list[str]:
    """The keys of an option of ours that are not in its file. A user's option, or another target, may have any key."""
    group, _, name = key.partition(".")  # probe.corridor, logger.wandb; or dataset, model, optim
    ours = our_option(group, name or choices.get(group) or component.name)
    ours = ours.get(name, {}) if name else {"name": None, **ours}
    if ours.get("_target_") != component.target:
        return []
    return [key for key in component.model_dump(exclude_unset=True) if key not in ours]
