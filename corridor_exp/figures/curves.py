"""Curves over the epochs: a panel for each metric, a column for each data set.

Few seeds are a line each, because a mean of a few on a logarithmic axis shows the largest alone, and their median hides
the others. Many are their median and the band between them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, product

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from corridor_exp.figures import style
from corridor_exp.runs import records
from corridor_exp.runs.groups import Runs, grouped, images_of, not_complete, seeds_of
from corridor_exp.runs.layout import Status
from corridor_exp.runs.reading import Run
from corridor_exp.runs.series import band

Groups = dict[tuple[str, str], list[Run]]  # by data set and label
LEVELS = {records.CORRIDOR_INDEX: (0.5, "½: least for E = ½θᵀHθ ≥ 0")}


@dataclass(frozen=True)
class Point:
    """A plotted number: the value of one seed, or the median and the range of many seeds."""

    dataset: str
    metric: str
    label: str
    seed: int | None
    epoch: float
    median: float
    low: float
    high: float
    runs: int


def points(groups: Groups, metrics: Sequence[str]) -> list[Point]:
    """All points of the figure."""
    drawn = []
    few = style.are_few(groups.values())
    for (dataset, label), seeds in groups.items():
        for metric, curve in product(metrics, [[run] for run in seeds] if few else [seeds]):
            values: dict[float, list[float]] = {}
            for epoch, value in (point for run in curve for point in run.series(metric).items()):
                values.setdefault(epoch, []).append(value)
            seed = curve[0].seed if few else None
            drawn += [Point(dataset, metric, label, seed, epoch, *band(v)) for epoch, v in sorted(values.items())]
    return drawn


def in_groups(runs: Runs) -> Groups:
    """The runs by data set and label, whose numbers rise. Runs on held-out images only choose a rate: none is drawn."""
    of_dataset: dict[str, list[Run]] = {}
    for run in runs.runs:
        if run.config and not run.config.get("dataset.held_out"):  # a run without a configuration cannot be named
            of_dataset.setdefault(run.config.get("dataset.name") or "data", []).append(run)
    return {
        (dataset, label): seeds
        for dataset, members in of_dataset.items()
        for label, seeds in sorted(grouped(members).items(), key=lambda group: _words_and_numbers(group[0]))
    }


def _words_and_numbers(label: str) -> list[str | float]:
    parts = re.split(r"(\d+(?:\.\d+)?)", label)
    return [float(part) if n % 2 else part for n, part in enumerate(parts)]


def draw(runs: Runs, panels: Sequence[str], title: str) -> tuple[Figure, list[Point]]:
    """The figure, and the numbers in it. `panels` are those of `conf/figure/`: each is a line of metrics."""
    split = [panel.split() for panel in panels]
    metrics = list(dict.fromkeys(metric for metrics in split for metric in metrics))
    groups = in_groups(runs)
    drawn = points(groups, metrics)
    columns = [(dataset, metrics) for dataset in dict.fromkeys(dataset for dataset, _ in groups) for metrics in split]
    looks = style.looks({label: seeds[0].config.get("optim.lr") for (_, label), seeds in groups.items()})
    with mpl.rc_context(style.RC):
        figure = style.new_figure(2.9, len(columns))
        axes = figure.subplots(1, max(1, len(columns)), squeeze=False)[0]
        for axis, (dataset, of_panel) in zip(axes, columns, strict=False):
            _panel(axis, [p for p in drawn if p.dataset == dataset and p.metric in of_panel], of_panel, looks)
            if len(columns) > len(split):
                members = [run for (place, _), seeds in groups.items() if place == dataset for run in seeds]
                name = style.DATASETS.get(dataset, dataset)
                axis.set_title(", ".join(filter(None, [name, images_of(members)])))
        shown = [run for seeds in groups.values() for run in seeds]
        images = "" if len(columns) > len(split) else _images_and_data(shown)
        facts = [images, seeds_of(shown), style.how_drawn(groups.values())]
        style.finish(figure, title, facts, _problems(groups, metrics) + _hidden(drawn))
    return figure, drawn


def _images_and_data(runs: Sequence[Run]) -> str:
    """For example "50,000 training images of CIFAR-10", where all runs have the same data."""
    images, names = images_of(runs), {str(run.config.get("dataset.name") or "") for run in runs}
    name = names.pop() if len(names) == 1 else ""
    return f"{images} of {style.DATASETS.get(name, name)}" if images and name else images


def _problems(groups: Groups, metrics: Sequence[str]) -> list[str]:
    """A line for each run that did not end well, or that has nothing to draw."""
    empty = [
        f"{label} seed {run.seed}: nothing to draw"
        for (_, label), seeds in groups.items()
        for run in seeds
        if run.status == Status.COMPLETED and not any(run.series(metric) for metric in metrics)
    ]
    return [line for (_, label), seeds in groups.items() for line in not_complete({label: seeds})] + empty


def _hidden(drawn: Sequence[Point]) -> list[str]:
    """A line for each curve that a later curve covers in every panel."""
    curves: dict[tuple[str, str], list[tuple[str, float, float]]] = {}
    for p in drawn:
        name = p.label if p.seed is None else f"{p.label} seed {p.seed}"
        curves.setdefault((p.dataset, name), []).append((p.metric, p.epoch, p.median))
    above = {(dataset, tuple(curve)): name for (dataset, name), curve in curves.items()}
    covers = {key: above[key[0], tuple(curve)] for key, curve in curves.items()}
    return [f"{name} lies under {cover}" for (_, name), cover in covers.items() if name != cover]


def _panel(axis: Axes, drawn: Sequence[Point], metrics: Sequence[str], looks: dict[str, style.Look]) -> None:
    for (label, look), (m, metric) in product(looks.items(), enumerate(metrics)):
        curve = [p for p in drawn if p.label == label and p.metric == metric]
        name = label
        if len(metrics) > 1 and len(looks) == 1:  # the metrics have a colour each
            name, look = f"{label}, {style.NAMES.get(metric, metric)}", style.look(m + 1)
        elif m:  # the label's colour, with another dash
            name, look = f"{label}, {style.NAMES.get(metric, metric)}", style.redashed(look, m)
        seeds = [list(of_seed) for _, of_seed in groupby(curve, key=lambda p: p.seed)]
        for of_seed in seeds:
            _curve(axis, of_seed, name, look, thin=len(seeds) > 1)
    axis.xaxis.set_major_locator(MaxNLocator("auto", steps=(1, 2, 5, 10), integer=True, min_n_ticks=1))
    axis.set(xlabel="epoch", ylabel=style.AXIS.get(metrics[0], metrics[0]))
    style.set_scale(axis, metrics[0], [value for p in drawn for value in (p.low, p.high)])
    if metrics[0] in LEVELS:
        level, meaning = LEVELS[metrics[0]]
        axis.axhline(level, color="0.3", linewidth=0.8, linestyle="--", label=meaning)


def _curve(axis: Axes, curve: Sequence[Point], name: str, look: style.Look, thin: bool) -> None:
    epochs = [p.epoch for p in curve]
    marker = "." if len(curve) == 1 else ""
    (line,) = axis.plot(epochs, [p.median for p in curve], label=name, marker=marker, **look)
    if thin:
        line.set(linewidth=0.9, alpha=0.8)
    if any(p.runs > 1 for p in curve):
        low, high = [p.low for p in curve], [p.high for p in curve]
        axis.fill_between(epochs, low, high, alpha=0.2, linewidth=0, color=look["color"])
