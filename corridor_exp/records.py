"""The record stream: `records.jsonl` in the run directory is the truth, everything else mirrors it.

A record is one JSON object a line: `step`, `epoch`, `time`, then metrics by the names below. Step k counts the
updates done before it; `train/…` and `probe/…` belong to that one step, before its update. An epoch's last record
adds `train/epoch_loss`, and `test/…` as measured after that epoch's last update. Accuracies are there for classes.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from corridor_exp.errors import RunError, UsageError
from corridor_exp.files import regular

Record: TypeAlias = dict[str, Any]
Metrics: TypeAlias = dict[str, float | None]

TRAIN_LOSS: Final = "train/loss"
TRAIN_LR: Final = "train/lr"
TRAIN_GRAD_NORM: Final = "train/grad_norm"
TRAIN_ACCURACY: Final = "train/accuracy"
TRAIN_EPOCH_LOSS: Final = "train/epoch_loss"
TEST_LOSS: Final = "test/loss"
TEST_ACCURACY: Final = "test/accuracy"
HG_NORM: Final = "probe/hg_norm"
CORRIDOR_INDEX: Final = "probe/corridor_index"
GRADIENT_CURVATURE: Final = "probe/gradient_curvature"
HG_RATIO: Final = "probe/hg_ratio"
CLR_STEP: Final = "probe/h"
SECANT_HG_NORM: Final = "probe/secant_hg_norm"
SECANT_COSINE: Final = "probe/secant_cosine"
SECANT_CORRIDOR_INDEX: Final = "probe/secant_corridor_index"
DECREASE_RATIO: Final = "probe/decrease_ratio"
GRADIENT_ALIGNMENT: Final = "probe/gradient_alignment"
LAYER_HG_NORM: Final = "probe/layer_hg_norm/"  # and the layer's name
SHARPNESS: Final = "probe/sharpness"
STABILITY_EDGE: Final = "probe/stability_edge"
DRIFT_DESCENT: Final = "probe/drift_descent"
DRIFT_CLR: Final = "probe/drift_clr"
FLOW_STRAIGHTNESS: Final = "probe/flow_straightness"

RECORDS_FILE: Final = "records.jsonl"
SUMMARY_FILE: Final = "summary.json"
CONFIG_FILE: Final = "config.yaml"
LOCK_FILE: Final = ".lock"
CHECKPOINTS: Final = "checkpoints"  # the folder
SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a folder: one component, and never `..`
NON_FINITE: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_json(value: Any, indent: int | None = None) -> str:
    """Standard JSON: a non-finite number becomes the string "nan", "inf" or "-inf"."""
    return json.dumps(_spelled(value), allow_nan=False, ensure_ascii=False, indent=indent)


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _spelled(v) for key, v in value.items()}
    return [_spelled(v) for v in value] if isinstance(value, list | tuple) else value


class RecordWriter:
    """Appends records to a run directory; every line is handed to the system before the next step begins."""

    def __init__(self, directory: Path, keep_bytes: int = 0) -> None:
        """Go on after the first `keep_bytes` bytes, which are the records that the checkpoint knows of."""
        self.path = directory / RECORDS_FILE
        try:
            self.file = open(regular(self.path), "ab")  # noqa: SIM115
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror}") from error
        if self.file.tell() < keep_bytes:
            raise RunError(f"{self.path} is shorter than its checkpoint says: records are lost; choose another out_dir")
        self.dropped = self.file.tell() - keep_bytes  # bytes; of a torn last line, too
        self.file.truncate(keep_bytes)
        self.file.seek(keep_bytes)  # else `bytes` would be the old length until the next record

    def write(self, record: Record) -> None:
        try:
            self.file.write(to_json(record).encode() + b"\n")
            self.file.flush()
        except OSError as error:
            raise RunError(
                f"cannot write {self.path}: {error.strerror}; stopping, so that no record is lost"
            ) from error

    @property
    def bytes(self) -> int:
        """The length of the file."""
        return self.file.tell()

    def sync(self) -> None:
        """Wait until all of it is on the disk."""
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()


def read_records(directory: Path) -> Iterator[Record]:
    """The records of a run, numbers restored; a last line torn by a kill is left out."""
    with open(regular(directory / RECORDS_FILE), encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                return
            yield from_json(line)


def from_json(line: str | bytes) -> Record:
    """One line of `records.jsonl`, numbers restored."""
    return {k: NON_FINITE.get(v, v) if isinstance(v, str) else v for k, v in json.loads(line).items()}


def read_summary(directory: Path) -> dict[str, Any] | None:
    """A run's summary, or None where there is none yet."""
    try:
        summary: dict[str, Any] = json.loads(regular(directory / SUMMARY_FILE).read_text())
    except FileNotFoundError:
        return None
    return summary


def run_folders(sweep: Path, runs: Iterable[Any]) -> list[Path]:
    """The folders of the runs that a manifest names. Raises `UsageError` for a name that could lead out of `sweep`."""
    names = list(runs)
    for name in names:
        if not isinstance(name, str) or not SAFE_NAME.fullmatch(name):
            raise UsageError(f"the manifest of {sweep} is damaged: {name!r} is no folder of a run")
    return [sweep / name for name in names]


def write_atomically(path: Path, content: bytes) -> None:
    """Write, flush to the disk, rename: a reader sees the old file or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk half a file is in everyone's way
        raise
