"""A run's configuration: its keys, their types, and what may be written down of it. Knows no torch.

Hydra composes (`config.compose`), this module checks: `Config.parse` turns the composed dictionary into a frozen
object, and everything below the command line sees only that. `Component.build` is the one place where a `_target_`
becomes an object.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from corridor_exp.config import secrets, targets
from corridor_exp.errors import UsageError
from corridor_exp.runs import reading
from corridor_exp.runs.records import CHECKPOINTS, RECORDS_FILE, SAFE_NAME

PACKAGE = Path(__file__).parents[1]
SHIPPED = PACKAGE if (PACKAGE / "conf").is_dir() else PACKAGE.parent  # an installed wheel has them inside
CONF_DIR, SBATCH = SHIPPED / "conf", SHIPPED / "scripts" / "train.sbatch"
SWEEP_GROUPS = ("figure", "scale")  # of corridor-sweep: they hold command lines, not a part of a configuration
TOO_MANY = 2**31  # images, steps, units: what a tensor cannot count, or a user cannot mean
MOST_THREADS = 1024


def _slug(text: str) -> str:
    if not SAFE_NAME.fullmatch(text):
        raise ValueError("must be 1 to 100 letters, digits, dots, dashes or underscores, not starting with a dot")
    return text


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("must be a path")
    return text


def _batch_size(value: int | str) -> int | str:
    if value != "full" and not (isinstance(value, int) and 0 < value < TOO_MANY):
        raise ValueError("must be a positive whole number, or full")
    return value


def _interval(value: int | str) -> int | str:
    minutes = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)min", str(value))
    if (float(minutes[1]) if minutes else 0) > 0 or (isinstance(value, int) and 0 < value < TOO_MANY):
        return value
    raise ValueError("must be a positive whole number of steps, or minutes such as 10min")


def _float32(value: float) -> float:
    if abs(value) > 3.4e38:
        raise ValueError("must be at most 3.4e38, as float32 has no larger number")
    return value


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise ValueError("must be auto, cpu, cuda or cuda:N")
    return text


Slug = Annotated[str, AfterValidator(_slug)]
PathStr = Annotated[str, AfterValidator(_path)]
Count = Annotated[int, Field(gt=0, lt=TOO_MANY)]
Whole = Annotated[int, Field(ge=0, lt=TOO_MANY)]
Finite = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_float32)]
Positive = Annotated[Finite, Field(gt=0)]
NonNegative = Annotated[Finite, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Triple = Annotated[list[Finite], Field(min_length=3, max_length=3)]


class Strict(BaseModel):
    """Keys with types; any other key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class Component(BaseModel):
    """One option of a group: what to build (`_target_`), its label, and its keyword arguments.

    The fields of a subclass are the group's vocabulary: a key means the same in every option that has it. Which
    keys an option has is said by its YAML file alone. Keys that only a user's own option has pass unchecked.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, serialize_by_alias=True, defer_build=True)

    name: Slug | None = None
    target: str = Field(alias="_target_")

    def keywords(self) -> dict[str, Any]:
        """The keys that are the target's own arguments."""
        set_keys = self.model_dump(exclude_unset=True)
        return {key: value for key, value in set_keys.items() if key not in ("name", "_target_", "schedule")}

    def factory(self) -> Callable[..., Any]:
        """What `_target_` names. Raises `UsageError` if that is not to be trusted."""
        return targets.load(self.target, our_targets())

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """Call the target with the option's keys and `kwargs`, which win."""
        factory, keywords = self.factory(), {**self.keywords(), **kwargs}
        try:
            inspect.signature(factory).bind(*args, **keywords)
        except ValueError:  # one of C's, which has no signature
            pass
        except TypeError as error:
            called = ", ".join([*(type(argument).__name__ for argument in args), *(f"{key}=" for key in keywords)])
            raise UsageError(f"_target_={self.target}: {error}; it is called with ({called})") from None
        return factory(*args, **keywords)


class Dataset(Component):
    root: PathStr = ""
    test: PathStr | None = None
    download: bool = False
    train_size: Count | None = None
    test_size: Count | None = None
    held_out: Count | None = None
    image_size: Annotated[int, Field(ge=1, le=4096)] = 1
    augment: bool = False
    drop_last: bool = False
    skip_corrupt: bool = False
    workers: Whole = 0
    mean: Triple = []
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)] = []


class Model(Component):
    width: Count = 1
    depth: Count = 1
    activation: Literal["relu", "silu", "gelu", "softplus", "tanh"] = "relu"
    norm: Literal["batch", "group", "none"] = "none"
    stem: Literal["auto", "small", "imagenet"] = "auto"
    dropout: Fraction = 0.0
    init: Literal["torch", "kaiming", "haiku"] = "torch"
    zero_init: bool = False


class Schedule(Strict):
    name: Literal["constant", "cosine"]
    warmup: Whole = 0
    period: Count | None = None
    period_factor: Count = 1
    min_lr: NonNegative = 0.0


class Optimizer(Component):
    lr: NonNegative = 0.0
    momentum: Fraction = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = []
    eps: NonNegative = 0.0
    scale: Positive = 1.0
    step_cap: Positive | None = None
    f_star: Finite = 0.0
    c: Positive = 1.0
    smooth: bool = False
    initial_step: Positive = 1.0
    adaptive: bool = False
    horizon: Count = 1
    power: Positive = 1.0
    curvature: Literal["autodiff", "secant"] = "autodiff"
    offset: Positive = 1.0
    beta: Fraction = 0.0
    d0: Positive = 1.0
    reps_rel: Positive = 1.0
    s_decay: NonNegative = 0.0
    s_init: Positive = 1.0
    warmup_steps: Whole = 0
    schedule: Schedule | None = None

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Optimizer:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=true needs momentum above 0")
        return self


class Probe(Component):
    images: Literal["batch", "fixed", "train"] = "batch"
    layers: bool = True
    count: Count = 1
    tolerance: Positive = 1e-3
    max_restarts: Count = 1
    steps: Count = 1
    scale: Positive = 1.0
    rtol: Positive = 1e-6
    max_evaluations: Count = 1


class Logger(Component):
    mode: Literal["offline", "online"] = "offline"
    project: str = ""
    entity: str | None = None
    api_key: str | None = None


class Probes(BaseModel):
    """The chosen probes by name, several at once in `probe=[corridor,sharpness]`, and what they share."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, defer_build=True)
    __pydantic_extra__: dict[str, Probe]
    every: Count

    def components(self) -> dict[str, Probe]:
        return dict(self.__pydantic_extra__)


class Engine(Strict):
    device: Annotated[str, AfterValidator(_device)]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    channels_last: bool | Literal["auto"]
    compile: bool
    sync_batch_norm: bool
    shard: bool
    micro_batch: Count | None
    threads: Annotated[int, Field(gt=0, le=MOST_THREADS)] | None
    tf32: bool


class Checkpoint(Strict):
    every: Annotated[int | str, AfterValidator(_interval)]
    keep: Count
    best: Literal["train/epoch_loss", "test/loss", "test/accuracy"] | None


class Resume(Strict):
    override: bool


class Config(Strict):
    """Everything that decides a run."""

    NOT_IDENTITY: ClassVar = ("out_dir", "resume", targets.SETTING)

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    batch_size: Annotated[int | str, AfterValidator(_batch_size)]
    epochs: Count
    max_steps: Count | None
    target_loss: Positive | None
    l2: NonNegative
    log_every: Count
    eval_every: Count
    name: Slug
    out_dir: PathStr | None
    fork_from: PathStr | None
    dataset: Dataset
    model: Model
    optim: Optimizer
    probe: Probes
    engine: Engine
    logger: dict[str, Logger]
    checkpoint: Checkpoint
    resume: Resume

    @classmethod
    def parse(cls, composed: Mapping[str, Any]) -> Config:
        """Check a composed configuration. Raises `UsageError`, one line, for the first thing wrong.

        What a run of an older version says of its own trust is passed over.
        """
        secrets.learn(composed)
        try:
            config = cls.model_validate({key: value for key, value in composed.items() if key != targets.SETTING})
        except ValidationError as error:
            raise UsageError(first_problem(error, cls.model_fields)) from None
        if config.optim.adaptive and config.batch_size != "full":
            raise UsageError("optim.adaptive=true needs the whole loss at every step: set batch_size=full")
        for key, component in config.components().items():
            targets.check(component.target, our_targets(), f"{key}._target_")
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
        """What may be written to a file, a console or a mirror: all keys that were set, secrets redacted."""
        public: dict[str, Any] = secrets.redact(self.model_dump(exclude_unset=True))
        return public

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same run: all but where it lies and whether a change is forgiven."""
        return {key: value for key, value in self.public().items() if key not in self.NOT_IDENTITY}

    def parent(self) -> tuple[Path, str] | None:
        """The run directory of `fork_from=RUN[@CHECKPOINT]`, and which checkpoint: a step, `best` or `newest`."""
        if self.fork_from is None:
            return None
        run, which = re.fullmatch(r"(.*?)(?:@(\d+|best))?", self.fork_from, re.DOTALL).groups()  # type: ignore[union-attr]
        return Path(run).expanduser(), which or "newest"

    def run_id(self) -> str:
        return f"{self.optim.name or 'run'}-seed{self.seed}-{fingerprint([self.identity()])}"


def refuse_place(directory: Path) -> None:
    """Raise `UsageError` if no run can lie there: a file is in the way, or a name is too long."""
    there = next(place for place in (directory, *directory.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise UsageError(f"out_dir={directory}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"out_dir={directory}: {there} cannot be written")
    longest = max(len(os.fsencode(name)) for name in directory.parts)
    below = len(os.fsencode(directory)) + 200  # room for the names in a run directory
    if longest > os.pathconf(there, "PC_NAME_MAX") or below > os.pathconf(there, "PC_PATH_MAX"):
        raise UsageError(f"out_dir={directory}: the name is too long for this file system")


def refuse_to_start(config: Config, directory: Path) -> None:
    """Raise `UsageError` if the directory is another configuration's, with the difference, or a parent is missing.

    A run that ended before its first record, say for want of data, has nothing to lose and may be corrected.
    """
    if not (directory / RECORDS_FILE).exists():
        parent = config.parent()
        if parent and not (parent[0] / CHECKPOINTS).is_dir():
            raise UsageError(
                f"fork_from={config.fork_from}: {parent[0].absolute()} has no {CHECKPOINTS}/ to start from"
            )
        return
    if config.resume.override:
        return
    stored, faults = reading.read_config(directory)
    if faults:
        raise UsageError(f"{directory}: {faults[0]}; choose another out_dir, or go on by resume.override=true")
    old = secrets.redact({key: value for key, value in stored.items() if key not in config.NOT_IDENTITY})
    if lines := difference(old, config.identity()):
        raise UsageError(
            f"{directory} holds another run ({'; '.join(lines)}): choose another out_dir, "
            "or go on with the changed configuration by resume.override=true"
        )


def first_problem(error: ValidationError, known: Iterable[str]) -> str:
    """One line on the first thing wrong; `known` are the keys that an unknown one may have been meant to be."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"] if part not in ("bool", "int", "str", "literal['auto']"))
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}{suggestion(key, known)}"
    reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    value = problem["input"]
    group, _, name = key.rpartition(".")
    if group and isinstance(value, list | dict) and problem["type"] != "missing":
        return f"{key}: {reason}; {name} means the same in all options of {group}: call a key of your own otherwise"
    shown = f"={secrets.redact(value, key)}" if isinstance(value, str | int | float) else ""
    return f"{key}{shown}: {reason}"


def suggestion(word: str, known: Iterable[str], parent: str = "", cutoff: float = 0.6) -> str:
    """`; did you mean 'clr'?`, or nothing if no known word is close. Keys are compared without their `parent.`."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=cutoff)
    return f"; did you mean '{parent}{close[0]}'?" if close else ""


def available_threads() -> int:
    """The cores that this process may use, or OMP_NUM_THREADS if the user has set it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and 0 < int(asked) <= MOST_THREADS:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def option_groups(folders: Iterable[Path]) -> dict[str, list[str]]:
    """The groups of one or more configuration folders, and the options of each, sorted."""
    patterns = ("*/*.yaml", "*/*/*.yaml")  # optim/sgd.yaml, optim/schedule/cosine.yaml
    try:
        found = [(folder, file) for folder in folders for pattern in patterns for file in folder.glob(pattern)]
    except OSError as error:
        raise UsageError(f"a configuration folder cannot be read: {error}") from None
    files = sorted(file.relative_to(folder) for folder, file in found)
    groups: dict[str, list[str]] = {}
    for file in files:
        if file.parts[0] not in SWEEP_GROUPS:
            groups.setdefault(file.parent.as_posix(), []).append(file.stem)
    return dict(sorted(groups.items()))


@cache
def our_targets() -> frozenset[str]:
    """Every `_target_` that the packaged `conf/` names."""
    named = re.compile(r"^ *_target_: *(\S+)", re.MULTILINE)
    return frozenset(target for file in CONF_DIR.rglob("*.yaml") for target in named.findall(file.read_text()))


def fingerprint(configs: list[dict[str, Any]]) -> str:
    text = json.dumps(configs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The old and the new value of every leaf in which two public configurations differ."""
    before, after = dict(leaves(old)), dict(leaves(new))
    keys = sorted(before.keys() | after.keys())
    values = {key: (before.get(key, "(absent)"), after.get(key, "(absent)")) for key in keys}
    return {key: (a, b) for key, (a, b) in values.items() if a != b}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The same as lines, `key: old → new`."""
    return [f"{key}: {before} → {after}" for key, (before, after) in changes(old, new).items()]


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def written_keys(stored: Mapping[str, Any]) -> dict[str, str]:
    """A configuration as a run directory holds it, flat and as text, without what is not identity."""
    identity = {key: value for key, value in stored.items() if key not in Config.NOT_IDENTITY}
    return {key: str(value) for key, value in leaves(secrets.redact(identity))}  # once more: it is shown to others


def varied_keys(configs: Iterable[Mapping[str, str]]) -> list[str]:
    """The keys to tell runs apart by; one that only some options have counts if it differs among those.

    A `_target_` is left out: the option's name says it.
    """
    values: dict[str, set[str]] = {}
    for config in configs:
        for key, value in config.items():
            values.setdefault(key, set()).add(value)
    return [key for key, seen in values.items() if len(seen) > 1 and not key.endswith("_target_")]
