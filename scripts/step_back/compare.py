"""Our runs beside those of step-back: the same network and settings. docs/rules.md has the runs and the rule.

    python scripts/step_back/compare.py RECORDS.csv RUNS FIGURE.png

RECORDS.csv is `cifar10_resnet20.csv` or `cifar10_vgg16.csv` from `stepback/records/` of github.com/fabian-sp/step-back.
It has the mean and the standard deviation over three runs after each epoch. RUNS holds our runs with this network, in
folders or in the files that scripts/thin_lines.py wrote.
"""

from __future__ import annotations

import csv
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from corridor_exp.figures.style import COLOURS, RC, WIDTH
from corridor_exp.runs import records, thinned
from corridor_exp.runs.reading import Run

THEIRS = {"sgd_dampened": "sgd-m", "sps_max": "prox-sps", "momo": "momo", "adam": "adam"}
LAST = 10  # epochs that are judged
MARGIN = 0.015  # of the accuracy


class Curve(NamedTuple):
    """Test accuracy after each epoch: the mean over the seeds, and the standard deviation over them."""

    mean: np.ndarray
    deviation: np.ndarray


def curves(file: Path) -> dict[tuple[str, float], Curve]:
    """Their curves by method and learning rate, which is the cap of a Polyak step."""
    rows = defaultdict(list)
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            found = int(row["epoch"]), float(row["val_score"]), float(row["val_score_std"])
            rows[row["name"], float(row["lr"])].append(found)
    return {key: Curve(*np.array(sorted(found)).T[1:]) for key, found in rows.items()}


def method(run: Run) -> str:
    return str(run.config["optim.name"])


def setting(run: Run) -> float:
    """The rate, or the cap of a Polyak step, which may be none."""
    value = run.config["optim.step_cap" if "optim.step_cap" in run.config else "optim.lr"]
    return math.inf if value is None else float(value)


def name(run: Run) -> str:
    what = "cap" if "optim.step_cap" in run.config else "rate"
    return f"{method(run)}, {what} {setting(run):.4g}"


def accuracies(run: Run) -> np.ndarray:
    return np.array([r[records.TEST_ACCURACY] for r in run.records if records.TEST_ACCURACY in r])


def line(run: Run, curve: Curve) -> str:
    """One run and their curve of its setting over the last epochs of the run, and whether they agree."""
    ours = accuracies(run)
    last = slice(max(len(ours) - LAST, 0), len(ours))
    mean, theirs, spread = ours[last].mean(), curve.mean[last].mean(), curve.deviation[last].mean()
    word = "agrees" if abs(mean - theirs) <= MARGIN else "differs"
    epochs = f"epochs {last.start + 1} to {last.stop}"
    return f"{name(run)}, {epochs}: {mean:.3f} and {theirs:.3f} ± {spread:.3f}, {mean - theirs:+.3f}: {word}"


def draw(pairs: Sequence[tuple[Run, Curve]], place: Path) -> None:
    with plt.rc_context(RC):
        figure, panels = plt.subplots(
            1, len(pairs), figsize=(WIDTH, 2.3), sharey=True, squeeze=False, layout="constrained"
        )
        for (run, curve), panel in zip(pairs, panels[0], strict=True):
            ours = accuracies(run)
            epochs = np.arange(1, len(curve.mean) + 1)
            low, high = curve.mean - curve.deviation, curve.mean + curve.deviation
            panel.fill_between(epochs, low, high, color=COLOURS[-1], alpha=0.2, lw=0, label="± their deviation")
            panel.plot(epochs, curve.mean, color=COLOURS[-1], label="step-back, 3 runs")
            panel.plot(epochs[: len(ours)], ours, color=COLOURS[0], label="ours, 1 run")
            panel.set(title=name(run), xlabel="epoch")
        panels[0][0].set_ylabel("test accuracy")
        figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(place, dpi=200)


def main(file: Path, place: Path, figure: Path) -> None:
    if not file.is_file():
        sys.exit(f"{file}: no such file")
    figure.parent.mkdir(parents=True, exist_ok=True)
    known = curves(file)
    runs = [run for run in thinned.runs_below(place) if method(run) in THEIRS and accuracies(run).size]
    pairs = [(run, known[key]) for run in runs if (key := (THEIRS[method(run)], setting(run))) in known]
    if not pairs:
        sys.exit(f"{place} has no run of a setting in {file}: docs/rules.md has the command")
    for run, curve in pairs:
        print(line(run, curve))
    draw(pairs, figure)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
