"""The record stream: `records.jsonl` in the run directory is the truth, everything else mirrors it.

A record is one JSON object a line: `step`, `epoch`, `time`, then metrics by the names below. Step k counts the
updates done before it; `train/…` and `probe/…` belong to that one step, before its update. An epoch's last record
adds `train/epoch_loss`, and `test/…` as measured after that epoch's last update. Accuracies are there for classes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from corridor_exp.errors import RunError
from corridor_exp.files import to_json
from corridor_exp.runs.layout import RECORDS_FILE

Record: TypeAlias = dict[str, Any]
Metrics: TypeAlias = dict[str, float | None]

TRAIN_LOSS: Final = "train/loss"
TRAIN_LR: Final = "train/lr"
TRAIN_GRAD_NORM: Final = "train/grad_norm"
TRAIN_ACCURACY: Final = "train/accuracy"
TRAIN_EVALUATIONS: Final = "train/evaluations"  # the cost of this step and all before it, in gradients of a batch
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
PROBE_VERSION: Final = "probe/version"  # which definition the secants of this record have
SHARPNESS: Final = "probe/sharpness"
STABILITY_EDGE: Final = "probe/stability_edge"
DRIFT_DESCENT: Final = "probe/drift_descent"
DRIFT_CLR: Final = "probe/drift_clr"
FLOW_STRAIGHTNESS: Final = "probe/flow_straightness"
BATCH_GRAD_NORM_SQ: Final = "probe/batch_grad_norm_sq"
FULL_GRAD_NORM_SQ: Final = "probe/full_grad_norm_sq"
GROWTH_RATIO: Final = "probe/growth_ratio"
NOISE_SCALE: Final = "probe/noise_scale"
BATCH_SHARPNESS: Final = "probe/batch_sharpness"

SECANTS: Final = (SECANT_HG_NORM, SECANT_COSINE, SECANT_CORRIDOR_INDEX, GRADIENT_ALIGNMENT)
MIDPOINT_VERSION: Final = 2  # secants compare the gradient at the midpoint of CLR's step; before, at its end

NON_FINITE: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class RecordsLostError(RunError):
    """Records that had been written are lost, so the run cannot go on in this directory."""


class RecordWriter:
    """Appends records to a run directory. Each line is handed to the operating system before the next step.

    Raises `RunError` if a record cannot be written, and `RecordsLostError` if records on the disk are lost.
    """

    def __init__(self, directory: Path, keep_bytes: int = 0) -> None:
        """Go on after the first `keep_bytes` bytes. These are the records at the time of the checkpoint."""
        self.path, self.bytes = directory / RECORDS_FILE, keep_bytes  # the length of the part that is known to be whole
        try:
            self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115
            self.dropped = self.file.tell() - keep_bytes  # bytes, including a last line that was cut
            if self.dropped > 0:
                self.file.truncate(keep_bytes)
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror}") from error
        if self.dropped < 0:
            raise RecordsLostError(
                f"{self.path} is shorter than its checkpoint says: records are lost; choose another out_dir"
            )

    def write(self, record: Record) -> None:
        self.check()
        line = to_json(record).encode() + b"\n"
        try:
            written = 0
            while written < len(line):  # a full disk takes a part of the line, and the next call fails
                written += self.file.write(line[written:])
        except OSError as error:
            with suppress(OSError):
                self.file.truncate(self.bytes)  # remove half a line
            raise RunError(
                f"cannot write {self.path}: {error.strerror}; stopping, so that no record is lost"
            ) from error
        self.bytes += len(line)

    def check(self) -> None:
        """Raise an error if a part of the file is lost. Another thread may write at the same time."""
        known = self.bytes
        try:
            there = os.stat(self.path)
        except OSError as error:
            raise RecordsLostError(f"{self.path} is gone: {error.strerror}; choose another out_dir") from None
        if not os.path.samestat(there, os.fstat(self.file.fileno())) or there.st_size < known:
            raise RecordsLostError(f"{self.path} was cut or replaced: records are lost; choose another out_dir")

    def sync(self) -> None:
        """Wait until all of it is on the disk."""
        self.check()
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()


def current(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics without the secants of an older probe, which had another definition."""
    if metrics.get(PROBE_VERSION) == MIDPOINT_VERSION or metrics.keys().isdisjoint(SECANTS):
        return metrics
    return {key: value for key, value in metrics.items() if key not in SECANTS}


def read_records(directory: Path) -> Iterator[Record]:
    """The records of a run, numbers restored; a last line torn by a kill is left out."""
    with open(directory / RECORDS_FILE, encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                return
            yield from_json(line)


def from_json(line: str | bytes) -> Record:
    """One line of `records.jsonl`, as `restored`."""
    return restored(json.loads(line))


def restored(metrics: Mapping[str, Any]) -> Record:
    """The same metrics, with non-finite values as numbers again, and without the secants of an older probe."""
    return current({k: NON_FINITE.get(v, v) if isinstance(v, str) else v for k, v in metrics.items()})
