"""Many runs in few files, a JSON line a run: the keys of the experiment, and what the map or a benchmark reads.

Of the map these are the records of the first twentieth and of the last tenth of the steps, of a benchmark the ends of
epochs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice, takewhile
from pathlib import Path

from corridor_exp.errors import UsageError
from corridor_exp.files import to_json
from corridor_exp.runs import layout, reading, records
from corridor_exp.runs.reading import NOT_EXPERIMENT, Run
from corridor_exp.runs.records import Record
from corridor_exp.runs.text import rounded

LARGEST = 900_000  # bytes of a file
LAST, EARLY = 0.1, 0.05  # shares of the steps
OF_THE_MAP = (
    "step",
    records.TRAIN_LOSS,
    records.SECANT_CORRIDOR_INDEX,
    records.DECREASE_RATIO,
    records.CORRIDOR_INDEX,
    records.CLR_STEP,
    records.SHARPNESS,
    records.HG_NORM,
    records.GROWTH_RATIO,
)
OF_A_BENCHMARK = ("step", "epoch", records.TRAIN_EVALUATIONS, records.TRAIN_EPOCH_LOSS, records.TEST_ACCURACY)
OF_A_SUMMARY = ("status", "train_images", "device", "git_commit", "seconds", "step")


def steps_of(run: Run) -> int:
    return int(run.config["max_steps"])


def is_early(record: Record, steps: int) -> bool:
    return record["step"] < EARLY * steps


def is_late(record: Record, steps: int) -> bool:
    return record["step"] >= steps - LAST * steps


def runs_below(folder: Path) -> list[Run]:
    """The runs of the files `*.jsonl` in the folder, or else of the run directories below it."""
    files = sorted(folder.glob("*.jsonl")) if not (folder / layout.CONFIG_FILE).exists() else []
    if files:
        return [run for file in files for run in read(file)]
    return [reading.read(directory) for directory in layout.find(folder)]


def of_the_map(run: Run) -> list[Record]:
    steps = steps_of(run)
    return [_kept(r, OF_THE_MAP) for r in run.records if is_early(r, steps) or is_late(r, steps)]


def of_a_benchmark(run: Run) -> list[Record]:
    """The ends of epochs, and the last record, which says what a run that diverged has cost."""
    ends = [r for r in run.records[:-1] if records.TRAIN_EPOCH_LOSS in r]
    return [_kept(r, OF_A_BENCHMARK) for r in (*ends, *run.records[-1:])]


KEPT: dict[str, Callable[[Run], list[Record]]] = {"map": of_the_map, "benchmark": of_a_benchmark}


def write(runs: Iterable[Run], name: Path, kept: Callable[[Run], list[Record]]) -> list[Path]:
    """Write NAME-1.jsonl, NAME-2.jsonl, … of at most `LARGEST` bytes, and return them. Higher numbers are removed."""
    files = [""]
    for run in runs:
        line = to_json(_line(run, kept(run))) + "\n"
        if len((files[-1] + line).encode()) > LARGEST:
            files.append("")
        files[-1] += line
    name.parent.mkdir(parents=True, exist_ok=True)
    numbered = (name.with_name(f"{name.name}-{number}.jsonl") for number in count(1))
    places = list(islice(numbered, len(files)))
    for place, text in zip(places, files, strict=True):
        place.write_text(text, encoding="utf-8")
    for left_by_more_runs in takewhile(Path.exists, numbered):
        left_by_more_runs.unlink()
    return places


def read(file: Path) -> Iterator[Run]:
    """Raises `UsageError` for a line that is no run."""
    for number, text in enumerate(file.read_bytes().splitlines(), 1):
        try:
            line = json.loads(text)
            kept = [{key: records.NON_FINITE.get(v, v) for key, v in r.items()} for r in line["records"]]
            if not all(type(r["step"]) is int for r in kept):
                raise ValueError("a record without a step")
            yield Run(Path(line["run"]), line["config"], line["summary"], kept)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{file}, line {number} is no run: {error}") from None


def _line(run: Run, kept: list[Record]) -> dict[str, object]:
    keys = [key for key in run.config if key in ("seed", "name") or not NOT_EXPERIMENT.fullmatch(key)]
    return {
        "run": "/".join(run.directory.parts[-2:]),
        "config": {key: run.config[key] for key in keys},
        "summary": {key: run.summary[key] for key in OF_A_SUMMARY if key in run.summary},
        "records": kept,
    }


def _kept(record: Record, metrics: Iterable[str]) -> Record:
    return {key: short(record[key]) for key in metrics if key in record}


def short(value: float | None) -> float | None:
    """Six digits, which is what float32 can tell."""
    return rounded(value, 6) if isinstance(value, float) else value
