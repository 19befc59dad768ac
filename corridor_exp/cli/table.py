"""A table of runs, from their directories: `python -m corridor_exp.cli.table outputs/digits-mlp/*`."""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corridor_exp.config.differences import varied_keys, written_keys
from corridor_exp.runs import reading, records
from corridor_exp.runs.layout import Status
from corridor_exp.runs.text import aligned, shown

METRICS = {  # the first that a run has
    "train loss": (records.TRAIN_EPOCH_LOSS, records.TRAIN_LOSS),
    "test accuracy": (records.TEST_ACCURACY,),
    "last h": (records.TRAIN_LR,),
}
Summary = dict[str, Any]


def table(directories: Sequence[Path]) -> str:
    """One line for each run, or, where several differ in the seed alone, one for each such group: how they ended.

    It names the keys in which the runs differ. Runs that have not started are included.
    """
    configs = [written_keys(reading.read_config(directory)[0]) for directory in directories]
    varied = varied_keys(configs)
    groups: dict[tuple[str, ...], list[Path]] = {}
    for directory, config in zip(directories, configs, strict=True):
        groups.setdefault(tuple(config.get(key, "–") for key in varied if key != "seed"), []).append(directory)
    if len(groups) == len(directories):
        rows = [_row([reading.read_summary(directory)]) for directory in directories]
        return beside_differences(directories, ["status", "steps", *METRICS], rows)
    head = ["runs", *(key for key in varied if key != "seed"), "n", "status", "steps", *METRICS]
    lines = [
        [_names(members), *values, str(len(members)), *_row([reading.read_summary(member) for member in members])]
        for values, members in groups.items()
    ]
    return f"{aligned([head, *lines])}\n\na line for n seeds: the mean over those that completed, and the range"


def beside_differences(directories: Sequence[Path], columns: Sequence[str], rows: Sequence[list[str]]) -> str:
    """One line a run: its name, the keys in which the runs differ, and its row of `columns`, which may be short."""
    configs = [written_keys(reading.read_config(directory)[0]) for directory in directories]
    varied = varied_keys(configs)
    values = [[config.get(key, "–") for key in varied] for config in configs]
    lines = [[directory.name, *keys, *row] for directory, keys, row in zip(directories, values, rows, strict=True)]
    return aligned([["run", *varied, *columns], *lines])


def _names(members: Sequence[Path]) -> str:
    return " ".join(member.name for member in members)


def _row(summaries: Sequence[Summary]) -> list[str]:
    """How one run ended, or several: their statuses, and of those that completed the steps and the metrics."""
    counts = Counter(str(summary.get("status", Status.NOT_STARTED)) for summary in summaries)
    status = ", ".join(f"{n} {status}" for status, n in counts.items()) if len(counts) > 1 else next(iter(counts))
    known = [s for s in summaries if s and (len(summaries) == 1 or s["status"] == Status.COMPLETED)]
    if not known:
        return [status]
    steps = _mean_and_range([summary.get("step") for summary in known])
    return [status, steps, *(_mean_and_range([_value(s, keys) for s in known]) for keys in METRICS.values())]


def _value(summary: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    metrics = summary.get("metrics", {})
    return next((metrics[key] for key in keys if metrics.get(key) is not None), None)


def _mean_and_range(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    low, high = min(known), max(known)
    return (
        shown(known[0])
        if len(known) == 1 or low == high
        else f"{shown(statistics.fmean(known))} ({shown(low)} to {shown(high)})"
    )


if __name__ == "__main__":
    print(table([Path(argument) for argument in sys.argv[1:]]))
