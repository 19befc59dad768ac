"""What a run directory holds, as far as it can be read.

`read` raises nothing, whatever lies there: a file may be missing, cut, garbled, or be no file at all. What cannot be
read is a fault, one line that names the file; the rest is read. So one broken folder never hides the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from corridor_exp.config.differences import leaves
from corridor_exp.errors import UsageError, in_words
from corridor_exp.files import parse_yaml, regular
from corridor_exp.runs.layout import CONFIG_FILE, MANIFEST, RECORDS_FILE, SUMMARY_FILE, Status
from corridor_exp.runs.records import Record, from_json, restored
from corridor_exp.runs.series import Epochs


@dataclass(frozen=True)
class Run:
    """A run as its directory holds it. What is missing is empty; `faults` say what cannot be read, and why."""

    directory: Path
    tree: dict[str, Any]  # the configuration
    summary: dict[str, Any]
    records: list[Record]  # up to the first line that is none
    torn: bool = False  # whether the last line was cut by a kill; it is left out
    faults: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """That of the summary; without one `unfinished` or `not started`; `unreadable` where there is a fault."""
        if self.faults:
            return Status.UNREADABLE
        return str(self.summary.get("status", Status.UNFINISHED if self.records else Status.NOT_STARTED))

    @property
    def complaint(self) -> str:
        """The faults in one line that names the directory; empty where there are none."""
        return f"{self.directory}: {'; '.join(self.faults)}" if self.faults else ""

    @cached_property
    def config(self) -> dict[str, Any]:
        """Every value of the configuration by its dotted key."""
        return dict(leaves(self.tree))

    @property
    def seed(self) -> int | None:
        return self.config.get("seed")

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


def read(directory: Path) -> Run:
    """All of a run. One that has completed, and whose records end before that, has a fault too."""
    config, faults = read_config(directory)
    summary, more = _read(directory / SUMMARY_FILE, json.loads, _Summary)
    written, torn, worse = _read_records(directory / RECORDS_FILE)
    faults += [*more, *worse]
    steps = written[-1]["step"] + 1 if written else 0
    if not faults and summary.get("status") == Status.COMPLETED and steps < summary.get("step", 0):
        faults.append(f"{RECORDS_FILE} ends at step {steps}, and the run at step {summary['step']}")
    return Run(directory, config, summary, written, torn, faults)


def read_config(directory: Path) -> tuple[dict[str, Any], list[str]]:
    """The configuration that a run was started with, and the faults of its file; a missing one is a fault."""
    config, faults = _read(directory / CONFIG_FILE, _whole_yaml, _Config)
    return config, faults if config or faults else [f"no {CONFIG_FILE}"]


def config_of(directory: Path) -> dict[str, Any]:
    """The same configuration. Raises `UsageError` where it cannot be read."""
    config, faults = read_config(directory)
    if faults:
        raise UsageError(f"{directory}: {faults[0]}")
    return config


def read_summary(directory: Path) -> dict[str, Any]:
    """How a run ended; empty where it did not, or where that cannot be read."""
    return _read(directory / SUMMARY_FILE, json.loads, _Summary)[0]


def manifest_of(directory: Path) -> dict[str, Any]:
    """What a sweep consists of; empty where there is none. Raises `UsageError` where its file cannot be read."""
    manifest, faults = _read(directory / MANIFEST, json.loads, _Manifest)
    if faults:
        raise UsageError(f"{directory}: {faults[0]}")
    return manifest


# -------------------------------------------------------------------- what is relied on


class _Model(BaseModel):
    """Keys that readers rely on, with their types; there may be others."""

    model_config = ConfigDict(strict=True, extra="allow", defer_build=True)


Whole = Annotated[int, Field(ge=0, lt=2**63)]


class _Summary(_Model):
    status: str
    error: str | None = None
    step: Whole | None = None
    seconds: float | None = None
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
    """The object in a file, and its faults; empty where there is no such file, or where it has a fault."""
    try:
        with _opened(path) as file:
            value = parse(file.read())
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
        if isinstance(value.get("metrics"), dict):
            value["metrics"] = restored(value["metrics"])
        model.model_validate(value)
        json.dumps(value, default=str, ensure_ascii=False).encode()  # no endless tree, and text that can be written
    except FileNotFoundError:
        return {}, []
    except ValidationError as error:
        problem = error.errors()[0]
        return {}, [f"{path.name}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"]
    except Exception as error:
        return {}, [_unreadable(path, error)]
    return value, []


def _whole_yaml(text: bytes) -> Any:
    """The YAML of a file, which ends with a line: half of one can be YAML, too."""
    value = parse_yaml(text)
    if isinstance(value, dict) and not text.endswith(b"\n"):
        raise ValueError("its last line was cut")
    return value


def _read_records(path: Path) -> tuple[list[Record], bool, list[str]]:
    """The records, whether a torn line follows, and the faults."""
    written: list[Record] = []
    try:
        with _opened(path) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return written, True, []
                written.append(_record(line))
    except FileNotFoundError:
        pass
    except OSError as error:
        return written, False, [_unreadable(path, error)]
    except Exception:
        return written, False, [f"{path.name} cannot be read beyond line {len(written)}"]
    return written, False, []


def _record(line: bytes) -> Record:
    """One line of the file. Raises where it is no record: step, epoch and time, and nothing but numbers and nulls."""
    record = from_json(line)
    "".join(record).encode()  # a lone surrogate could be shown nowhere
    numbers = {key: value for key, value in record.items() if value is not None}
    if not all(type(value) is float or (type(value) is int and abs(value) < 2**63) for value in numbers.values()):
        raise ValueError("not only numbers")
    whole = type(record["step"]) is type(record["epoch"]) is int
    if not whole or record["step"] < 0 or record["epoch"] < 0 or not 0 <= record["time"] < math.inf:
        raise ValueError("no step, epoch or time")
    return record


def _opened(path: Path) -> BinaryIO:
    """The file, opened. Raises `OSError` where it is no file."""
    return open(regular(path), "rb")


def _unreadable(path: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or in_words(error).removeprefix(f"{path} ")
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:  # whose own words quote the file
        reason = f"line {error.problem_mark.line + 1} is no YAML"
    return f"{path.name} cannot be read: {reason}"
