"""The stability plot of any sweep: how runs end against their learning rate, a line for each method.

A method without a rate to tune, such as CLR, is a level line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from corridor_exp.figures import style
from corridor_exp.runs import records
from corridor_exp.runs.groups import Runs, grouped, images_of, not_complete, seeds_of
from corridor_exp.runs.layout import Status
from corridor_exp.runs.reading import Run
from corridor_exp.runs.series import band

RATE = "optim.lr"
METRICS = (records.TRAIN_EPOCH_LOSS, records.TEST_ACCURACY)


@dataclass(frozen=True)
class Point:
    """A plotted number: the last value of a metric for one seed, or the median and the range of many seeds.

    Only runs that completed have an end. `rate` is None for a level line.
    """

    metric: str
    method: str
    seed: int | None
    rate: float | None
    median: float
    low: float
    high: float
    runs: int


def points(runs: Sequence[Run], few: bool) -> list[Point]:
    """All points of the figure. Few seeds have a point each."""
    drawn = []
    for metric in METRICS:
        for method, members in grouped(runs, apart_from=RATE).items():
            ends: dict[tuple[int | None, float | None], list[float]] = {}
            for run in members:
                series = list(run.series(metric).values())
                if run.status == Status.COMPLETED and series:
                    ends.setdefault((run.seed if few else None, run.config.get(RATE)), []).append(series[-1])
            in_order = sorted(ends.items(), key=lambda end: (end[0][0] or 0, end[0][1] or 0.0))
            drawn += [Point(metric, method, seed, rate, *band(values)) for (seed, rate), values in in_order]
    return drawn


def draw(runs: Runs, title: str) -> tuple[Figure, list[Point]]:
    """The figure, and the numbers in it. A run that did not complete is named instead of drawn.

    Runs that were tested on held-out training images are not drawn beside others.
    """
    shown = [run for run in runs.runs if not run.config.get("dataset.held_out")] or runs.runs
    groups = grouped(shown)
    drawn = points(shown, style.are_few(groups.values()))
    metrics = [metric for metric in METRICS if any(p.metric == metric for p in drawn)]
    with mpl.rc_context(style.RC):
        figure = style.new_figure(2.9, len(metrics))
        axes = figure.subplots(1, max(1, len(metrics)), squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=False):
            _panel(axis, [p for p in drawn if p.metric == metric])
            axis.set(xlabel="learning rate", xscale="log", ylabel=f"last {style.AXIS[metric]}")
            style.set_scale(axis, metric, [p.median for p in drawn if p.metric == metric])
        facts = [images_of(shown), seeds_of(shown), style.how_drawn(groups.values())]
        style.finish(figure, title, facts, not_complete(groups))
    return figure, drawn


def _panel(axis: Axes, drawn: Sequence[Point]) -> None:
    colours = {method: style.look(n)["color"] for n, method in enumerate(dict.fromkeys(p.method for p in drawn))}
    for (method, _), of_seed in groupby(drawn, key=lambda p: (p.method, p.seed)):
        members, colour = list(of_seed), colours[method]
        for level in (p for p in members if p.rate is None):
            axis.axhline(level.median, color=colour, label=method, linestyle="--")
            axis.axhspan(level.low, level.high, color=colour, alpha=0.2, linewidth=0)
        if line := [p for p in members if p.rate is not None]:
            rates: Any = [p.rate for p in line]
            axis.plot(rates, [p.median for p in line], "o-", color=colour, markersize=3, label=method)
            low, high = [p.low for p in line], [p.high for p in line]
            axis.fill_between(rates, low, high, color=colour, alpha=0.2, linewidth=0)
