"""The stability plot of any sweep: how a run ends against its learning rate, a line a method.

A method without a rate to tune, such as CLR, is a level line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from corridor_exp.figures import style
from corridor_exp.runs import records
from corridor_exp.runs.groups import Runs, grouped, not_complete
from corridor_exp.runs.layout import Status
from corridor_exp.runs.series import band

RATE = "optim.lr"
METRICS = (records.TRAIN_EPOCH_LOSS, records.TEST_ACCURACY)


@dataclass(frozen=True)
class Point:
    """A plotted number: the last value of a metric, over the runs that completed. `rate` is None for a level line."""

    metric: str
    method: str
    rate: float | None
    median: float
    low: float
    high: float
    runs: int


def points(runs: Runs) -> list[Point]:
    drawn = []
    for metric in METRICS:
        for method, members in grouped(runs.runs, apart_from=RATE).items():
            ends: dict[float | None, list[float]] = {}
            for run in members:
                series = list(run.series(metric).values())
                if run.status == Status.COMPLETED and series:
                    ends.setdefault(run.config.get(RATE), []).append(series[-1])
            drawn += [
                Point(metric, method, rate, *band(v)) for rate, v in sorted(ends.items(), key=lambda end: end[0] or 0.0)
            ]
    return drawn


def draw(runs: Runs, title: str) -> tuple[Figure, list[Point]]:
    """The figure, and the numbers in it. A run that did not complete has no end: it is named instead."""
    drawn = points(runs)
    metrics = [metric for metric in METRICS if any(p.metric == metric for p in drawn)]
    with mpl.rc_context(style.RC):
        figure = style.new_figure(2.9, len(metrics))
        axes = figure.subplots(1, max(1, len(metrics)), squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=False):
            _panel(axis, [p for p in drawn if p.metric == metric])
            axis.set(xlabel="learning rate", xscale="log", ylabel=f"last {style.AXIS[metric]}")
            style.set_scale(axis, metric, [p.median for p in drawn if p.metric == metric])
        style.finish(figure, f"{title}\n{runs.facts()}", not_complete(grouped(runs.runs)))
    return figure, drawn


def _panel(axis: Axes, drawn: Sequence[Point]) -> None:
    for n, method in enumerate(dict.fromkeys(p.method for p in drawn)):
        line = [p for p in drawn if p.method == method and p.rate is not None]
        colour = style.COLOURS[n % len(style.COLOURS)]
        for level in (p for p in drawn if p.method == method and p.rate is None):
            axis.axhline(level.median, color=colour, label=method)
            axis.axhspan(level.low, level.high, color=colour, alpha=0.2, linewidth=0)
        if line:
            rates = [p.rate for p in line]
            axis.plot(rates, [p.median for p in line], "o-", color=colour, markersize=3, label=method)  # type: ignore[arg-type]
            low, high = [p.low for p in line], [p.high for p in line]
            axis.fill_between(rates, low, high, color=colour, alpha=0.2, linewidth=0)  # type: ignore[arg-type]
