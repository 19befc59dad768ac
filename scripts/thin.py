"""Copy a sweep into a folder for outputs/reference/, without what no figure and no claim reads.

    python scripts/thin.py SWEEP OUT

OUT gets the manifest and, of each run, its configuration and its summary. Of the records it gets the ends of epochs and
the looks whole, and of the other steps E, h and the cost so far, if h changes during the run. No number loses a digit
of float32.
A run that has not ended keeps its configuration alone: a copy of OUT is a sweep that goes on with it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from corridor_exp.files import to_json
from corridor_exp.runs import reading, records
from corridor_exp.runs.layout import CONFIG_FILE, ENDED, MANIFEST, RECORDS_FILE, SUMMARY_FILE, find
from corridor_exp.runs.records import Record

OF_A_STEP = ("step", "epoch", "time", records.TRAIN_LOSS, records.TRAIN_LR, records.TRAIN_EVALUATIONS)


def thin(sweep: Path, out: Path) -> None:
    """Copy the sweep. Raises `OSError` where a file cannot be read or written."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(sweep / MANIFEST, out / MANIFEST)
    for directory in find(sweep):
        place = out / directory.relative_to(sweep)
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(directory / CONFIG_FILE, place / CONFIG_FILE)
        run = reading.read(directory)
        if run.status in ENDED:
            shutil.copyfile(directory / SUMMARY_FILE, place / SUMMARY_FILE)
            lines = (to_json(record) + "\n" for record in kept(run.records))
            (place / RECORDS_FILE).write_text("".join(lines), encoding="utf-8")


def kept(written: Sequence[Record]) -> Iterator[Record]:
    """The records that figures and claims read, with the metrics that they read."""
    h_varies = len({record.get(records.TRAIN_LR) for record in written}) > 1
    for record in written:
        if records.TRAIN_EPOCH_LOSS in record or any(key.startswith("probe/") for key in record):
            yield {key: short(value) for key, value in record.items()}
        elif h_varies or record is written[-1]:  # the last one tells how far the run came
            yield {key: short(record[key]) for key in OF_A_STEP if key in record}


def short(value: float | None) -> float | None:
    """The shortest decimal of a float32; any other number as it is."""
    exact = isinstance(value, float) and float(np.float32(value)) == value
    return float(str(np.float32(value))) if exact else value


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    thin(Path(sys.argv[1]), Path(sys.argv[2]))
