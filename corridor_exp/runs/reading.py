"""What a run directory holds, as far as it can be read.

`read` raises no error: a file may be missing, cut, damaged, or not even a regular file. Each problem becomes a fault,
one line that names the file, and the rest is read. So one broken folder never hides the others.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from corridor_exp.config.differences import leaves
from corridor_exp.errors import UsageError, in_words
from corridor_exp.files import regular
from corridor_exp.runs.layout import CONFIG_FILE, MANIFEST, RECORDS_FILE, SUMMARY_FILE, Status
from corridor_exp.runs.records import NON_FINITE, TRAIN_EVALUATIONS, Record, current, restored
from corridor_exp.runs.series import Epochs, newest
from corridor_exp.yaml_files import parse_yaml

# Keys that say where and how a run was done. They do not belong to the experiment.
NOT_EXPERIMENT = re.compile(
    r"seed|name|out_dir|(log|eval)_every|.*_target_|(engine|logger|checkpoint|resume|probe)\..*|dataset\.root"
)


@dataclass(frozen=True)
class Run:
    """A run as its directory holds it. Missing parts are empty. `faults` say what cannot be read, and why."""

    directory: Path
    tree: dict[str, Any]  # the configuration
    summary: dict[str, Any]
    records: Sequence[Record]  # up to the first line that cannot be read
    torn: bool = False  # whether the last line was cut by a kill; it is left out
    faults: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The status in the summary; `unfinished` or `not started` without one; `unreadable` if there is a fault."""
        if self.faults:
            return Status.UNREADABLE
        return str(self.summary.get("status", Status.UNFINISHED if self.records else Status.NOT_STARTED))

    @property
    def complaint(self) -> str:
        """The faults in one line that names the directory; empty if there are none."""
        return f"{self.directory}: {'; '.join(self.faults)}" if self.faults else ""

    @cached_property
    def config(self) -> dict[str, Any]:
        """Every value of the configuration by its dotted key."""
        return dict(leaves(self.tree))

    @property
    def seed(self) -> int | None:
        return self.config.get("seed")

    @property
    def cost(self) -> float:
        """What the run has cost so far, in gradients of a batch."""
        return newest(self.records, TRAIN_EVALUATIONS) or 0.0

    @cached_property
    def epochs(self) -> Epochs:
        return Epochs(self.records)

    def series(self, metric: str) -> dict[float, float]:
        """The finite values of a metric by the epochs done after its step.

        A run shorter than an epoch is drawn as if it were one.
        """
        whole = max((r["step"] + 1 for r in self.records), default=1)
        return {
            self.epochs.done(steps := r["step"] + 1) or steps / whole: r[metric]
            for r in self.records
            if r.get(metric) is not None and math.isfinite(r[metric])
        }


def read(directory: Path, keep: Callable[[Iterable[Record]], Sequence[Record]] = list) -> Run:
    """The whole run. A completed run whose records end too early has a fault too.

    `keep` goes through the records once, and returns those that the run has: by default all, but at least the last.
    """
    config, faults = read_config(directory)
    summary, more = _read(directory / SUMMARY_FILE, json.loads, _Summary)
    stream = _RecordStream(directory / RECORDS_FILE)
    kept = keep(stream)
    faults += [*more, *stream.faults]
    steps = kept[-1]["step"] + 1 if kept else 0
    if not faults and summary.get("status") == Status.COMPLETED and steps < summary.get("step", 0):
        faults.append(f"{RECORDS_FILE} ends at step {steps}, and the run at step {summary['step']}")
    return Run(directory, config, summary, kept, stream.torn, faults)


def read_config(directory: Path, name: str = CONFIG_FILE) -> tuple[dict[str, Any], list[str]]:
    """The configuration of a run, and the faults of its file. A missing file is a fault."""
    config, faults = _read(directory / name, _whole_yaml, _Config)
    return config, faults if config or faults else [f"no {name}"]


def config_of(directory: Path, name: str = CONFIG_FILE) -> dict[str, Any]:
    """The same configuration. Raises `UsageError` where it cannot be read."""
    config, faults = read_config(directory, name)
    if faults:
        raise UsageError(f"{directory}: {faults[0]}")
    return config


def read_summary(directory: Path) -> dict[str, Any]:
    """How a run ended; empty if it did not end, or if the file cannot be read."""
    return _read(directory / SUMMARY_FILE, json.loads, _Summary)[0]


def manifest_of(directory: Path) -> dict[str, Any]:
    """The manifest of a sweep; empty if there is none. Raises `UsageError` if the file cannot be read."""
    manifest, faults = _read(directory / MANIFEST, json.loads, _Manifest)
    if faults:
        raise UsageError(f"{directory}: {faults[0]}")
    return manifest


# -------------------------------------------------------------------- what is relied on


class _Model(BaseModel):
    """Keys that readers need, with their types. Other keys are allowed."""

    model_config = ConfigDict(strict=True, extra="allow", defer_build=True)


Whole = Annotated[int, Field(ge=0, lt=2**63)]


class _Summary(_Model):
    status: str
    error: str | None = None
    step: Whole | None = None
    seconds: float | None = None
    train_images: Whole | None = None
    metrics: dict[str, float | None] = {}
    git_commit: str | None = None
    versions: dict[str, str] = {}


class _Option(_Model):
    name: str | None = None
    lr: float | None = None
    step_cap: float | None = None


class _Config(_Model):
    seed: Whole | None = None
    name: str | None = None
    batch_size: Whole | str | None = None
    epochs: Whole | None = None
    max_steps: Whole | None = None
    dataset: _Option = _Option()
    model: _Option = _Option()
    optim: _Option = _Option()
    logger: dict[str, dict[str, Any]] = {}


class _Manifest(_Model):
    command: list[str]
    runs: list[str]
    time: str
    git_commit: str | None


# ------------------------------------------------------------------------------ files


def _read(path: Path, parse: Callable[[bytes], Any], model: type[_Model]) -> tuple[dict[str, Any], list[str]]:
    """The object in a file, and the faults of the file; empty if the file is missing or has a fault."""
    try:
        with _opened(path) as file:
            value = parse(file.read())
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
        if isinstance(value.get("metrics"), dict):
            value["metrics"] = restored(value["metrics"])
        model.model_validate(value)
        json.dumps(value, default=str, ensure_ascii=False).encode()  # refuses endless trees and broken text
    except FileNotFoundError:
        return {}, []
    except ValidationError as error:
        problem = error.errors()[0]
        return {}, [f"{path.name}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"]
    except Exception as error:
        return {}, [_unreadable(path, error)]
    return value, []


def _whole_yaml(text: bytes) -> Any:
    """The value of a YAML file. Its last line must be whole, because the first half of a file can be valid YAML too."""
    value = parse_yaml(text)
    if isinstance(value, dict) and not text.endswith(b"\n"):
        raise ValueError("its last line was cut")
    return value


class _RecordStream:
    """The records of a file, up to the first line that cannot be read. After the last one it says what was wrong.

    `torn`: the last line was cut by a kill, and is left out. `faults`: why the rest cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.torn = path, False
        self.faults: list[str] = []

    def __iter__(self) -> Iterator[Record]:
        whole, keys = 0, set[str]()
        try:
            with _opened(self.path) as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        self.torn = True
                        return
                    record = _record(line, keys)
                    whole += 1
                    yield record
        except FileNotFoundError:
            pass
        except OSError as error:
            self.faults.append(_unreadable(self.path, error))
        except Exception:
            self.faults.append(f"{self.path.name} cannot be read beyond line {whole}")


def _record(line: bytes, known: set[str]) -> Record:
    """One line of the file. Raises an error if it is not a record: step, epoch and time, and only numbers and nulls.

    `known` are the keys of earlier lines.
    """
    record = json.loads(line.decode())
    for key, value in record.items():
        if type(value) is str:
            record[key] = NON_FINITE[value]
        elif not (type(value) is float or value is None or (type(value) is int and abs(value) < 2**63)):
            raise ValueError("not only numbers")
    if not record.keys() <= known:
        "".join(record).encode()  # fails for a lone surrogate, which no file can hold
        known.update(record)
    step, epoch = record["step"], record["epoch"]
    if not type(step) is type(epoch) is int or step < 0 or epoch < 0 or not 0 <= record["time"] < math.inf:
        raise ValueError("no step, epoch or time")
    return current(record)


def _opened(path: Path) -> BinaryIO:
    """The open file. Raises `OSError` if it is not a regular file."""
    return open(regular(path), "rb")


def _unreadable(path: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or in_words(error).removeprefix(f"{path} ")
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:  # its own message would quote the file
        reason = f"line {error.problem_mark.line + 1} is no YAML"
    return f"{path.name} cannot be read: {reason}"
