"""A run as the page shows it: a row of its table, and curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from corridor_exp.config.differences import written_keys
from corridor_exp.config.secrets import redact
from corridor_exp.runs.layout import RECORDS_FILE
from corridor_exp.runs.reading import Run

DIGITS = 6
LONGEST = 1_000  # points of one curve: more than a screen has pixels for

Point = tuple[int, Any]  # a step, and a number, None, or "nan", "inf", "-inf"


@dataclass(frozen=True)
class Row:
    """A run on the page; `remarks` say what of its directory cannot be read, or what went wrong."""

    path: str
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
        value = self.results.get(key)
        return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def row(run: Run, path: str, longest: int = LONGEST) -> Row:
    """What the page shows of a run; a curve of more than `longest` points is thinned."""
    curves: dict[str, list[Point]] = {}
    results: dict[str, Any] = {}
    for record in run.records:
        metrics = {key: value for key, value in record.items() if key not in ("step", "epoch", "time")}
        for key, value in metrics.items():
            curves.setdefault(key, []).append((record["step"], _rounded(value)))
        results |= {**_without_null(metrics), "steps": record["step"] + 1, "seconds": record["time"]}
    summary = run.summary  # newer than the last record
    results |= _without_null(summary.get("metrics", {}))
    results |= {k: summary[s] for k, s in (("steps", "step"), ("seconds", "seconds")) if s in summary}
    clock = [(record["step"], record["time"]) for record in run.records]
    return Row(
        path,
        run.status,
        run.complaint,
        remarks=list(_remarks(run)),
        config=written_keys(run.tree),
        results=results,
        commit=summary.get("git_commit"),
        version=summary.get("versions", {}).get("corridor_exp"),
        clock=list(dict.fromkeys(clock[:: len(clock) // longest + 1] + clock[-1:])),
        epoch_ends=run.epochs.ends,
        curves={key: thin(curve, longest) for key, curve in curves.items()},
        thinned=any(len(curve) > longest for curve in curves.values()),
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


def _rounded(value: float | None) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def thin(curve: Sequence[Point], longest: int) -> list[Point]:
    """At most `longest` of the points, in order: both ends, and of each stretch the extremes and a non-finite one.

    So a spike stays, which an average or every n-th point would hide.
    """
    if len(curve) <= longest:
        return list(curve)
    inner = range(1, len(curve) - 1)
    stretches = (longest - 2) // 3
    kept = {0, len(curve) - 1}
    for number in range(stretches):
        stretch = inner[number * len(inner) // stretches : (number + 1) * len(inner) // stretches]
        numbers = [i for i in stretch if _is_number(curve[i][1])]
        kept.update(next(([i] for i in stretch if not _is_number(curve[i][1])), []))
        if numbers:
            kept.update((min(numbers, key=lambda i: curve[i][1]), max(numbers, key=lambda i: curve[i][1])))
    return [curve[i] for i in sorted(kept)]


def _is_number(value: float | None) -> bool:
    return value is not None and abs(value) < float("inf")
