"""The atlas of a run: when, where and in which layers training was near a corridor."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from corridor_exp.figures import style
from corridor_exp.figures.run_statistics import tenths
from corridor_exp.runs import records
from corridor_exp.runs.groups import images_of
from corridor_exp.runs.reading import Run
from corridor_exp.runs.records import Record
from corridor_exp.runs.text import aligned

ROUNDING = 1e-3  # of a measure in float32: ‖θ‖² lies exactly on the thresholds
# What no convex quadratic with minimum 0 reaches.
THRESHOLDS: dict[str, tuple[str, Callable[[float], bool]]] = {
    records.CORRIDOR_INDEX: ("< ½", lambda value: value < 0.5 - ROUNDING),
    records.SECANT_CORRIDOR_INDEX: ("< ½", lambda value: value < 0.5 - ROUNDING),
    records.GRADIENT_ALIGNMENT: ("> ¾", lambda value: value > 0.75 + ROUNDING),
    records.DECREASE_RATIO: ("> ¾", lambda value: value > 0.75 + ROUNDING),
}


@dataclass(frozen=True)
class Phase:
    """A tenth of training: the medians over its looks, and the share of looks beyond each threshold."""

    first_step: int
    last_step: int
    looks: int
    loss: float
    medians: dict[str, float | None]
    near: dict[str, float | None]
    layers: dict[str, float]  # the median share of each layer in ‖Hg‖²; adds up to about 1


def phases(looks: Sequence[Record], total_steps: int) -> list[Phase]:
    """The looks of a run, by tenths of its steps. Tenths without a look are left out."""
    return [_phase(members) for members in tenths(looks, total_steps)]


def _phase(looks: list[Record]) -> Phase:
    def values(key: str) -> list[float]:
        return [look[key] for look in looks if look.get(key) is not None]

    medians = {key: statistics.median(values(key)) if values(key) else None for key in THRESHOLDS}
    near = {}
    for key, (_, beyond) in THRESHOLDS.items():
        seen = values(key)
        near[key] = sum(map(beyond, seen)) / len(seen) if seen else None
    layers: dict[str, list[float]] = {}
    for look in looks:
        for key, value in look.items():
            if key.startswith(records.LAYER_HG_NORM) and value is not None and look[records.HG_NORM]:
                share = (value / look[records.HG_NORM]) ** 2
                layers.setdefault(key.removeprefix(records.LAYER_HG_NORM), []).append(share)
    return Phase(
        looks[0]["step"],
        looks[-1]["step"],
        len(looks),
        statistics.median(values(records.TRAIN_LOSS)),
        medians,
        near,
        {layer: statistics.median(shares) for layer, shares in layers.items()},
    )


def table(atlas: list[Phase]) -> str:
    """A line for each phase: medians, the share of looks beyond each threshold, the layer with most of ‖Hg‖²."""
    short = {
        records.CORRIDOR_INDEX: "index",
        records.SECANT_CORRIDOR_INDEX: "secant",
        records.GRADIENT_ALIGNMENT: "alignment",
        records.DECREASE_RATIO: "decrease",
    }
    head = ["steps", "looks", "loss", *(f"{short[k]} ({mark})" for k, (mark, _) in THRESHOLDS.items()), "most of ‖Hg‖²"]
    rows = [head]
    for phase in atlas:
        cells = [_cell(phase.medians[key], phase.near[key]) for key in THRESHOLDS]
        top = max(phase.layers, key=lambda layer: phase.layers[layer], default=None)
        culprit = f"{top} {phase.layers[top]:.0%}" if top else "–"
        rows.append([f"{phase.first_step}–{phase.last_step}", str(phase.looks), f"{phase.loss:.3g}", *cells, culprit])
    return aligned(rows)


def _cell(median: float | None, near: float | None) -> str:
    return "–" if median is None or near is None else f"{median:.3g} ({near:.0%})"


def write_csv(atlas: list[Phase], path: Path) -> None:
    layers = list(dict.fromkeys(layer for phase in atlas for layer in phase.layers))
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["first_step", "last_step", "looks", "median train/loss"]
            + [f"{what} {key}" for key in THRESHOLDS for what in ("median", "share beyond threshold of")]
            + [f"share of Hg² in {layer}" for layer in layers]
        )
        for phase in atlas:
            pairs = [value for key in THRESHOLDS for value in (phase.medians[key], phase.near[key])]
            shares = [phase.layers.get(layer) for layer in layers]
            writer.writerow([phase.first_step, phase.last_step, phase.looks, phase.loss, *pairs, *shares])


COLOURS = {
    records.CORRIDOR_INDEX: "#0072B2",
    records.SECANT_CORRIDOR_INDEX: "#D55E00",
    records.GRADIENT_ALIGNMENT: "#CC79A7",
    records.DECREASE_RATIO: "#009E73",
}


def title_of(run: Run) -> str:
    """The run, its model and its data set. The picture needs them once it has left the folder of its run."""
    place = run.directory.resolve()
    named = [run.config.get(f"{group}.name") for group in ("dataset", "model", "optim")]
    batch = run.summary.get("batch_size") or run.config.get("batch_size")
    facts = [*named, images_of([run]), f"batch {batch}" if batch else "", f"seed {run.seed}"]
    return f"{place.parent.name}/{place.name}\n{', '.join(str(fact) for fact in facts if fact)}"


def draw(looks: Sequence[Record], atlas: list[Phase], title: str) -> Figure:
    """Three panels over the steps of training: both indices, both ratios, each layer's share of ‖Hg‖²."""
    has_layers = any(phase.layers for phase in atlas)
    layers = list(dict.fromkeys(layer for phase in atlas for layer in phase.layers))
    heights = [2.2, 1.6, max(1.2, 0.16 * len(layers))] if has_layers else [2.2, 1.6]
    figure = Figure(figsize=(7, sum(heights) + 1.2), layout="constrained")
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    steps = [look["step"] for look in looks]
    for key, label in (
        (records.CORRIDOR_INDEX, "tangent, E‖Hg‖/‖g‖³"),
        (records.SECANT_CORRIDOR_INDEX, "secant to the midpoint of CLR's step"),
    ):
        _points(axes[0], steps, looks, key, label)
    axes[0].axhline(0.5, color="0.3", linewidth=0.8, linestyle="--")
    axes[0].set(yscale="log", ylabel="corridor index (0: corridor)")
    low, high = axes[0].get_ylim()
    if high < 100 * low:
        style.plain_ticks(axes[0].yaxis)
    axes[0].text(1.0, 0.5, " ½", transform=axes[0].get_yaxis_transform(), va="center", color="0.3")
    _legend(axes[0])
    _points(axes[1], steps, looks, records.GRADIENT_ALIGNMENT, "alignment at the midpoint")
    _points(axes[1], steps, looks, records.DECREASE_RATIO, "decrease ratio over the step")
    axes[1].axhline(0.75, color="0.3", linewidth=0.8, linestyle="--")
    axes[1].text(1.0, 0.75, " ¾", transform=axes[1].get_yaxis_transform(), va="center", color="0.3")
    ratios = (records.GRADIENT_ALIGNMENT, records.DECREASE_RATIO)
    below = sum(any((look.get(key) or 0) < -1 for key in ratios) for look in looks)
    if below:
        count = f"{below} look{'s' * (below > 1)} below −1"
        axes[1].text(0, 1.03, count, transform=axes[1].transAxes, va="bottom", fontsize="small")
    axes[1].set(ylabel="ratio (1: corridor)", ylim=(-1.05, 1.05), xlabel="step")
    _legend(axes[1])
    axes[1].sharex(axes[0])
    if has_layers:
        _layer_map(figure, axes[2], atlas, layers)
    figure.suptitle(title, fontsize="medium")
    return figure


def _points(axis: Any, steps: list[int], looks: Sequence[Record], key: str, label: str | None) -> None:
    shown = [(step, look[key]) for step, look in zip(steps, looks, strict=True) if look.get(key) is not None]
    if shown:
        axis.plot(*zip(*shown, strict=True), ".", markersize=3.5, color=COLOURS[key], label=label, clip_on=True)


def _legend(axis: Any) -> None:
    """The legend, above the panel, so that it covers no look."""
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0}
    axis.legend(**place, frameon=False, ncols=2, fontsize="small", handletextpad=0, columnspacing=1)


def _layer_map(figure: Figure, axis: Any, atlas: list[Phase], layers: list[str]) -> None:
    shares = [[phase.layers.get(layer, 0.0) for phase in atlas] for layer in layers]
    image = axis.imshow(shares, aspect="auto", cmap="viridis", vmin=0, interpolation="nearest")
    axis.set_yticks(range(len(layers)), layers, fontsize="x-small")
    axis.set_xticks(range(len(atlas)), [f"{p.first_step}" for p in atlas], fontsize="small")
    axis.set(xlabel="first step of each tenth of training", ylabel="layer")
    figure.colorbar(image, ax=axis, label="share of ‖Hg‖²")
