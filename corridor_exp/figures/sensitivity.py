"""The picture of a benchmark of step sizes: how runs end by setting, and which share of the problems they solve."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.figure import Figure

from corridor_exp.figures import style
from corridor_exp.figures.rivals import METRICS, Defaults, Method, Point, Row, comparable, methods_of, profile, ranked
from corridor_exp.runs import records
from corridor_exp.runs.groups import Runs, images_of, seeds_of

DECADES = 3.0  # of the loss, above and below the target, that have colours of their own
FURTHEST = 100.0  # factor of the best up to which a profile is drawn
OTHERS = "the other methods"
FEWEST = 5  # columns of a problem, so that a default without other settings stays as narrow as one of five
ALWAYS = ("CLR", "clr_trust", "SGD")  # have a colour in the profiles
OF_A_ROW, OF_A_PROFILE = 0.14, 2.8  # inches
LETTERS = 90  # of a line above the figure
PROFILES = {"default": "at the default", "tuned": "tuned, without the cost of the search"}


def draw(runs: Runs, targets: Mapping[str, float], defaults: Defaults, title: str) -> tuple[Figure, list[Point]]:
    """The figure. Above: how runs end against the main setting, a column for each problem. Below: two profiles.

    Methods come in the order in which they solve most problems at their default, at the least cost.
    """
    methods = methods_of(runs, targets, defaults)
    points = [point for method in methods for point in method.points()]
    rows = [method.row() for method in methods]
    problems = list(dict.fromkeys(row.problem for row in rows))
    names = ranked(rows, "default_gradients")
    metrics = [m for m in METRICS if any(p.metric == m for p in points)]
    height = 0.9 + OF_A_ROW * len(names)
    with mpl.rc_context({**style.RC, "axes.grid": False}):
        figure = style.new_figure(height * len(metrics) + OF_A_PROFILE)
        parts: Any = figure.subfigures(2, 1, height_ratios=[height * len(metrics), OF_A_PROFILE])
        above, below = parts
        grid = above.subplots(len(metrics), max(len(problems), 1), squeeze=False, sharey=True)
        for axes, metric in zip(grid, metrics, strict=True):
            norm = _norm(metric, [p.median for p in points if p.metric == metric])
            for axis, problem in zip(axes, problems, strict=True):
                here = {m.label: m for m in methods if m.problem == problem}
                cells = [p for p in points if p.problem == problem and p.metric == metric]
                _heat_map(axis, metric, [here.get(name) for name in names], cells, targets[problem], norm)
                axis.set_title(problem if metric == metrics[0] else "")
                if not cells:  # of a problem without classes
                    axis.clear()
                    axis.set_axis_off()
                    axis.text(0.5, 0.5, "no classes", transform=axis.transAxes, ha="center", fontsize=6.5)
            axes[0].set_yticks(range(len(names)), names, fontsize=6.5)
            axes[0].set_ylabel(f"last {style.AXIS[metric]}")
            _colour_bar(above, list(axes), metric)
        of_kinds = {kind: comparable(rows, f"{kind}_gradients") for kind in PROFILES}
        shown = highlighted(of_kinds["default"], of_kinds["tuned"])
        lines: dict[str, Artist] = {}
        for axis, (kind, compared) in zip(below.subplots(1, 2), of_kinds.items(), strict=True):
            lines |= _profile(axis, compared, f"{kind}_gradients", shown)
            on = ", ".join(dict.fromkeys(row.problem for row in compared))
            axis.set_title(textwrap.fill(f"{PROFILES[kind]}: {on}", 48))
            axis.set_visible(bool(compared))
        key = {name: lines[name] for name in (*shown, OTHERS) if name in lines}
        below.legend(key.values(), key.keys(), fontsize=6.5, loc="outside lower center", ncols=4, frameon=False)
        marks = "columns: the main setting; dot: the default; cross: diverged; last column: no bound"
        facts = [images_of(runs.runs), seeds_of(runs.runs), _median_of(points), marks]
        figure.suptitle("\n".join([title, textwrap.fill("; ".join(filter(None, facts)), LETTERS)]), fontsize=9)
    return figure, points


def _median_of(points: Sequence[Point]) -> str:
    """What a cell is: the median of so many runs, which differ in their seed."""
    counts = sorted({point.runs for point in points}) or [1]
    return f"a cell: the median of {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"


def highlighted(default: Sequence[Row], tuned: Sequence[Row]) -> dict[str, style.Look]:
    """The methods with a colour in the profiles: some always, then the best at their defaults and tuned in turn."""
    known = {row.method for row in default}
    best = zip_longest(ranked(default, "default_gradients"), ranked(tuned, "tuned_gradients"))
    names = dict.fromkeys([*(n for n in ALWAYS if n in known), *(name for pair in best for name in pair if name)])
    return {name: style.look(n) for n, name in enumerate(list(names)[: len(style.COLOURS)])}


def _heat_map(
    axis: Axes,
    metric: str,
    methods: Sequence[Method | None],
    points: Sequence[Point],
    target: float,
    norm: Normalize,
) -> None:
    """A row a method, a column a value of its main setting, from low to high; a value such as "no bound" comes last."""
    columns = max([FEWEST, *(len(m.settings) for m in methods if m)])
    cells = np.full((len(methods), columns), math.nan)
    for place, method in enumerate(methods):
        ends = {p.setting: p.median for p in points if method and p.method == method.label}
        settings = method.settings if method else {}
        first = columns // 2 if len(settings) == 1 else 0  # the default alone
        for column, setting in enumerate(settings, first):
            cells[place, column] = _shade(ends.get(setting, math.nan), metric, target)
            if method and setting == method.default:
                axis.plot(column, place, "o", color="black", markersize=1.8)
            if math.isinf(ends.get(setting, 0.0)):
                axis.plot(column, place, "x", color="black", markersize=3, markeredgewidth=0.7)
    colours = "RdBu_r" if isinstance(norm, CenteredNorm) else "viridis"
    axis.imshow(cells, cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
    axis.set_xticks([])
    axis.set_xlabel("low → high")
    axis.spines[:].set_visible(False)
    axis.tick_params(left=False)


def _shade(value: float, metric: str, target: float) -> float:
    """What the colour stands for: the decades of a loss above its target, or the accuracy itself."""
    if metric == records.TEST_ACCURACY:
        return value
    return min(math.log10(max(value, 1e-30) / target), DECADES)


def _norm(metric: str, values: Sequence[float]) -> Normalize:
    return Normalize(min(values), max(values)) if metric == records.TEST_ACCURACY else CenteredNorm(halfrange=DECADES)


def _colour_bar(figure: Figure, axes: list[Axes], metric: str) -> None:
    bar = figure.colorbar(axes[0].images[0], ax=axes, fraction=0.03, pad=0.01)
    bar.outline.set_visible(False)
    if metric == records.TRAIN_EPOCH_LOSS:
        bar.set_label("decades above the target (blue: reached)")


def _profile(axis: Axes, rows: Sequence[Row], cost: str, looks: Mapping[str, style.Look]) -> dict[str, Artist]:
    """The share of problems solved within a factor of the least cost. Most methods are grey. Returns lines by name."""
    costs: dict[str, dict[str, float]] = {}
    for row in rows:
        costs.setdefault(row.problem, {})[row.method] = getattr(row, cost)
    grey = style.Look(color="#cccccc", linestyle="-")
    factors = profile(costs)
    for name in sorted(factors, key=lambda name: name in looks):
        solved = [n / len(costs) for n in range(len(factors[name]) + 1)]
        x, y = [1.0, *factors[name], FURTHEST], [*solved, solved[-1]]
        shown = name in looks
        label, width = (name, 1.4) if shown else (OTHERS, 0.7)
        axis.step(x, y, where="post", label=label, linewidth=width, **looks.get(name, grey))
    axis.set(xscale="log", xlim=(1, FURTHEST), ylim=(0, 1.03), xlabel="gradients to the target / the least of all")
    axis.set_ylabel("share of problems")
    handles, labels = axis.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))
