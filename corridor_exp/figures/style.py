"""What all pictures share: a two-column paper's size and type, colours that the colour-blind tell apart, names."""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypedDict

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from corridor_exp.runs import records

WIDTH, NARROW = 6.9, 4.2  # inches: the text of a two-column paper, and a single panel
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito
FEW_RATES = 3  # up to here each has a colour of its own
FEW_SEEDS = 3  # up to here each is drawn
DASHES = ("-", "--", ":", "-.")
RC: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 7.5,
}
RC |= {"lines.linewidth": 1.2, "pdf.fonttype": 42, "axes.grid": True, "grid.alpha": 0.25}

AXIS = {  # of a panel, by its first metric
    records.TRAIN_LOSS: "training loss of the step",
    records.TRAIN_EPOCH_LOSS: "training loss, epoch mean",
    records.TEST_LOSS: "test loss",
    records.TRAIN_ACCURACY: "training accuracy of the step",
    records.TEST_ACCURACY: "test accuracy",
    records.TRAIN_EVALUATIONS: "cost in gradients of a batch",
    records.TRAIN_LR: "learning rate h",
    records.TRAIN_GRAD_NORM: "‖g‖",
    records.HG_NORM: "‖Hg‖₂, all parameters",
    records.CORRIDOR_INDEX: "corridor index (0: corridor)",
    records.SHARPNESS: "sharpness λ₁",
    records.DRIFT_DESCENT: "drift from the flow, relative",
    records.GROWTH_RATIO: "growth ratio E‖g_B‖²/‖g‖²",
    records.NOISE_SCALE: "gradient noise scale, images",
    records.BATCH_SHARPNESS: "batch sharpness",
}
DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "imagenet": "ImageNet",
}
NAMES = {  # of a metric that shares its panel
    records.HG_NORM: "autodiff",
    records.SECANT_HG_NORM: "secant to CLR's midpoint",
    records.CORRIDOR_INDEX: "autodiff",
    records.SECANT_CORRIDOR_INDEX: "secant to CLR's midpoint",
    records.SHARPNESS: "sharpness",
    records.BATCH_SHARPNESS: "batch sharpness",
    records.STABILITY_EDGE: "2/h",
}


def are_few(groups: Iterable[Sequence[Any]]) -> bool:
    """Whether each run is drawn, instead of the median."""
    return max(map(len, groups), default=0) <= FEW_SEEDS


def how_drawn(groups: Collection[Sequence[Any]]) -> str:
    """The meaning of a line, if there are several seeds."""
    if all(len(runs) == 1 for runs in groups):
        return ""
    return "one line per seed" if are_few(groups) else "line: median, band: lowest to highest"


class Look(TypedDict):
    """How a curve is drawn, as keywords of matplotlib."""

    color: Any
    linestyle: str


def look(number: int) -> Look:
    """The colour of this number. After the last colour they begin again with another dash."""
    return Look(color=COLOURS[number % len(COLOURS)], linestyle=DASHES[number // len(COLOURS) % len(DASHES)])


def redashed(look: Look, number: int) -> Look:
    """The same colour, with another dash."""
    return Look(color=look["color"], linestyle=DASHES[number % len(DASHES)])


def looks(rates: Mapping[str, float | None]) -> dict[str, Look]:
    """A look for each label. Many learning rates share one map of colours, from low to high. Other labels are dashed.

    Labels of the same rate, as of two optimizers, have the same colour and another dash.
    """
    ordered = sorted({rate for rate in rates.values() if rate is not None})
    if len(ordered) <= FEW_RATES:
        return {label: look(n) for n, label in enumerate(rates)}
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(ordered)))
    others = (look(n) for n in range(len(rates)))
    dashes = {rate: iter(DASHES) for rate in ordered}
    return {
        label: Look(color=next(others)["color"], linestyle="--")
        if rate is None
        else Look(color=tuple(colours[ordered.index(rate)]), linestyle=next(dashes[rate], DASHES[-1]))
        for label, rate in rates.items()
    }


def new_figure(height: float, panels: int = 2) -> Figure:
    return Figure(figsize=(WIDTH if panels > 1 else NARROW, height), layout="constrained")


def set_scale(axis: Axes, metric: str, values: Sequence[float]) -> None:
    """Logarithmic where the values span a factor of three, with plain ticks below ten. An accuracy is linear."""
    span = max(values) / min(values) if min(values, default=0) > 0 else 1.0
    if span >= 3 and "accuracy" not in metric:
        axis.set_yscale("log")
        if span < 10:
            plain_ticks(axis.yaxis)


def plain_ticks(axis: Axis) -> None:
    """Print plain numbers at a short logarithmic axis (`axes.xaxis` or `axes.yaxis`), instead of powers of ten."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    axis.set_minor_formatter("{x:g}")


def finish(figure: Figure, title: str, facts: Sequence[str], problems: Sequence[str]) -> None:
    """Add title and facts, the legend below, and under it every run that a reader could miss."""
    handles: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    width = round(17 * figure.get_figwidth())  # in letters
    note = textwrap.fill("Runs to note: " + "; ".join(problems), width) if problems else None
    lines = filter(None, [title, "; ".join(filter(None, facts))])
    figure.suptitle("\n".join(textwrap.fill(line, round(0.8 * width)) for line in lines), fontsize=9)
    columns = min(4 if figure.get_figwidth() > NARROW else 3, max(1, len(handles)))
    legend = figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=columns,
        frameon=False, title=note, title_fontsize=7,
    )  # fmt: skip
    legend.get_title().set_color("#B00020")
    for line in legend.get_lines():  # thin lines of single seeds are pale
        line.set(alpha=1.0, linewidth=max(1.6, line.get_linewidth()))


def save(figure: Figure, points: Sequence[Any], path: Path) -> None:
    """Save the figure as .pdf and .png, and the plotted numbers, dataclasses of one kind, as .csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for kind in ("pdf", "png"):
        figure.savefig(path.with_suffix(f".{kind}"), dpi=200)
    with open(path.with_suffix(".csv"), "w", newline="") as file:
        writer = csv.writer(file)
        if points:
            writer.writerow([field.name for field in fields(points[0])])
        writer.writerows(asdict(point).values() for point in points)
