"""A table of runs, from their directories alone: `python -m corridor_exp.cli.table outputs/digits-mlp/*`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corridor_exp.config.differences import varied_keys, written_keys
from corridor_exp.runs import reading, records
from corridor_exp.runs.layout import Status

COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "status": lambda summary: summary["status"],
    "steps": lambda summary: str(summary.get("step", "–")),
    "train loss": lambda summary: _number(summary, records.TRAIN_EPOCH_LOSS, records.TRAIN_LOSS),
    "test accuracy": lambda summary: _number(summary, records.TEST_ACCURACY),
    "last h": lambda summary: _number(summary, records.TRAIN_LR),
}


def table(directories: list[Path]) -> str:
    """One line a run: how it ended, and the keys in which the runs differ. Runs that never started are there too."""
    summaries = [reading.read_summary(directory) for directory in directories]
    rows = [[column(s) for column in COLUMNS.values()] if s else [str(Status.NOT_STARTED)] for s in summaries]
    return beside_differences(directories, list(COLUMNS), rows)


def beside_differences(directories: list[Path], columns: list[str], rows: list[list[str]]) -> str:
    """One line a run: its name, the keys in which the runs differ, and its row of `columns`, which may be short."""
    configs = [written_keys(reading.read_config(directory)[0]) for directory in directories]
    varied = varied_keys(configs)
    lines = [["run", *varied, *columns]]
    for directory, config, row in zip(directories, configs, rows, strict=True):
        shown = [str(config.get(key, "–")) for key in varied]
        lines.append([directory.name, *shown, *row, *[""] * (len(columns) - len(row))])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _number(summary: dict[str, Any], *keys: str) -> str:
    for key in keys:
        value = summary.get("metrics", {}).get(key)
        if value is not None:
            return f"{value:.4g}" if isinstance(value, float) else str(value)
    return "–"


if __name__ == "__main__":
    print(table([Path(argument) for argument in sys.argv[1:]]))
