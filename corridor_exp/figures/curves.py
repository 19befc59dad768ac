"""Curves over the epochs: a panel a metric, a column a data set, the median of the seeds and the band between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from corridor_exp.figures import style
from corridor_exp.figures.runs import Run, Runs, grouped, not_complete
from corridor_exp.runs import records
from corridor_exp.runs.series import band

LEVELS = {records.CORRIDOR_INDEX: (0.5, "½: no convex quadratic is below")}


@dataclass(frozen=True)
class Point:
    """A plotted number: the median over the runs that got there, and their range: of three runs, all three."""

    dataset: str
    metric: str
    label: str
    epoch: float
    median: float
    low: float
    high: float
    runs: int


def points(runs: Runs, metrics: Sequence[str]) -> list[Point]:
    """All that is drawn. Runs on held-out images only choose a rate: no curve is theirs."""
    drawn = []
    for dataset, members in by_dataset(runs).items():
        for label, seeds in grouped(members).items():
            for metric in metrics:
                values: dict[float, list[float]] = {}
                for run in seeds:
                    for epoch, value in run.series(metric).items():
                        values.setdefault(epoch, []).append(value)
                drawn += [Point(dataset, metric, label, epoch, *band(v)) for epoch, v in sorted(values.items())]
    return drawn


def by_dataset(runs: Runs) -> dict[str, list[Run]]:
    members: dict[str, list[Run]] = {}
    for run in runs.runs:
        if run.config and not run.config.get("dataset.held_out"):  # without one it would be anything's curve
            members.setdefault(run.config.get("dataset.name") or "data", []).append(run)
    return members


def draw(runs: Runs, panels: Sequence[str], title: str) -> tuple[Figure, list[Point]]:
    """The figure, and the numbers in it. `panels` as in `conf/figure/`: a line of metrics each."""
    split = [panel.split() for panel in panels]
    drawn = points(runs, list(dict.fromkeys(metric for metrics in split for metric in metrics)))
    datasets = by_dataset(runs)
    columns = [(dataset, metrics) for dataset in datasets for metrics in split]
    groups = {label: of_label for members in datasets.values() for label, of_label in grouped(members).items()}
    looks = style.looks({label: of_label[0].config.get("optim.lr") for label, of_label in groups.items()})
    with mpl.rc_context(style.RC):
        figure = style.new_figure(2.9, len(columns))
        axes = figure.subplots(1, len(columns), squeeze=False)[0]
        for axis, (dataset, metrics) in zip(axes, columns, strict=True):
            _panel(axis, [p for p in drawn if p.dataset == dataset and p.metric in metrics], metrics, looks)
            if len(datasets) > 1:
                axis.set_title(dataset)
        problems = [line for members in datasets.values() for line in not_complete(grouped(members))]
        style.finish(figure, f"{title}\n{runs.facts()}", problems)
    return figure, drawn


def _panel(axis: Axes, drawn: Sequence[Point], metrics: Sequence[str], looks: dict[str, style.Look]) -> None:
    for label, look in looks.items():
        for m, metric in enumerate(metrics):
            curve = [p for p in drawn if p.label == label and p.metric == metric]
            if not curve:
                continue
            name = label
            if len(metrics) > 1 and len(looks) == 1:  # the metrics have a colour each
                name, look = f"{label}, {style.NAMES.get(metric, metric)}", style.look(m + 1)
            elif m:  # the label's colour, with another dash
                name, look = f"{label}, {style.NAMES.get(metric, metric)}", style.redashed(look, m)
            epochs = [p.epoch for p in curve]
            axis.plot(epochs, [p.median for p in curve], label=name, marker="." if len(curve) == 1 else "", **look)
            low, high = [p.low for p in curve], [p.high for p in curve]
            axis.fill_between(epochs, low, high, alpha=0.2, linewidth=0, color=look["color"])
    axis.set(xlabel="epoch", ylabel=style.AXIS.get(metrics[0], metrics[0]))
    style.set_scale(axis, metrics[0], [value for p in drawn for value in (p.low, p.high)])
    if metrics[0] in LEVELS:
        level, meaning = LEVELS[metrics[0]]
        axis.axhline(level, color="0.3", linewidth=0.8, linestyle="--", label=meaning)
