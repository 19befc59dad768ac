"""A run as the page shows it: a row of its table, and curves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from corridor_exp.config.differences import written_keys
from corridor_exp.config.secrets import redact
from corridor_exp.report.columns import Columns, Point
from corridor_exp.runs.layout import LOCK_FILE, RECORDS_FILE, Status, is_held
from corridor_exp.runs.reading import Run
from corridor_exp.runs.text import shown

DIGITS = 6
LONGEST = 1_000  # points of one curve: more than a screen has pixels for


@dataclass(frozen=True)
class Row:
    """A run on the page; `remarks` say what of its directory cannot be read, or what went wrong."""

    path: str
    link: str  # to the directory, from the page
    has_atlas: bool
    command: str | None  # that starts such a run anew; `page.write` finds it
    status: str
    complaint: str  # what of its directory cannot be read
    remarks: list[str]
    config: dict[str, str]
    results: dict[str, Any]
    commit: str | None
    version: str | None
    clock: list[tuple[int, float]]  # steps, and the seconds passed by then
    epoch_ends: list[tuple[int, int]]
    curves: dict[str, list[Point]]
    thinned: bool

    def cell(self, key: str) -> str:
        return shown(self.results.get(key))


def row(run: Run, columns: Columns, path: str, link: str = "", longest: int = LONGEST) -> Row:
    """What the page shows of a run, whose records are `columns`; a curve of more than `longest` points is thinned."""
    results = dict(columns.newest)
    for last in run.records[-1:]:
        results |= {"steps": last["step"] + 1, "seconds": last["time"]}
    summary = run.summary  # newer than the last record
    results |= _without_null(summary.get("metrics", {}))
    results |= {k: summary[s] for k, s in (("steps", "step"), ("seconds", "seconds")) if s in summary}
    is_running = run.status in (Status.UNFINISHED, Status.NOT_STARTED) and is_held(run.directory / LOCK_FILE)
    return Row(
        path,
        link,
        (run.directory / "atlas.png").is_file(),
        None,
        Status.RUNNING if is_running else run.status,
        run.complaint,
        remarks=list(_remarks(run)),
        config=written_keys(run.tree),
        results=results,
        commit=summary.get("git_commit"),
        version=summary.get("versions", {}).get("corridor_exp"),
        clock=columns.clock.every(longest),
        epoch_ends=columns.epochs.ends,
        curves={key: curve.points(longest, DIGITS) for key, curve in columns.curves.items()},
        thinned=any(len(curve.steps) > longest for curve in columns.curves.values()),
    )


def _remarks(run: Run) -> Iterator[str]:
    if run.summary.get("error"):
        yield redact(run.summary["error"])
    yield from run.faults
    if run.torn:
        yield f"the last line of {RECORDS_FILE} is torn"
    if not run.records:
        yield "no record yet"


def _without_null(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if value is not None}
