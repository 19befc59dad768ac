"""What decides how CLR ends: a factorial of stem, initial weights and zero logits (conf/figure/stem.yaml).

    python scripts/factorial.py SWEEP [NOISE]

Prints a row for each cell; NOISE is the sweep of conf/figure/stem_noise.yaml. For each method it prints which share of
the variance of log₁₀ of the last epoch's loss each factor and each interaction explains. docs/rules.md has the
definitions. A stem counts for a method if all of its runs have ended.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F

from corridor_exp.figures.run_statistics import INDICES, epoch_ends, epoch_losses, steps_to
from corridor_exp.models import resnet18
from corridor_exp.objective.batches import DataShape
from corridor_exp.runs import records
from corridor_exp.runs.groups import Run, Runs
from corridor_exp.runs.layout import ENDED

FACTORS = ("stem", "weights", "zero logits")
LEVELS = (("imagenet", "pooled", "small"), ("torch", "haiku"), (False, True))
METHODS = {"CLR": ("clr", None), "CLR, cap 1": ("clr", 1.0), "SGD": ("sgd", None)}
SMALLEST, LARGEST = 1e-6, 10.0
EARLY_STEPS = 30  # after the first epoch

Cell = tuple[str, str, bool]


def shares(y: np.ndarray, factors: int) -> dict[tuple[int, ...], float]:
    """The part of the variance of y that each factor and each interaction explains, in a balanced design.

    The first `factors` axes of y are the factors, the others replicates. An effect is what the mean over all other axes
    has beyond the effects of lower order. Effects are orthogonal, so their parts and the replicates' add up to 1.
    """
    effects: dict[tuple[int, ...], np.ndarray] = {(): y.mean(keepdims=True)}
    total = float(np.square(y - y.mean()).sum())
    explained = {}
    for subset in (s for order in range(1, factors + 1) for s in combinations(range(factors), order)):
        others = tuple(axis for axis in range(y.ndim) if axis not in subset)
        lower = sum(effects[s] for s in effects if set(s) < set(subset))
        effects[subset] = effect = y.mean(axis=others, keepdims=True) - lower
        explained[subset] = float(np.square(effect).sum()) * y.size / effect.size / total
    return explained


def in_cell(runs: Runs, method: str, cell: Cell) -> list[Run]:
    """The runs of a cell, by seed and rate."""
    name, cap = METHODS[method]
    stem, weights, zero = cell
    found = runs.where(optim__name=name, model__stem=stem, model__init=weights, model__zero_init=zero)
    return [run for run in found if run.config.get("optim.step_cap") == cap]


def response(runs: Sequence[Run]) -> list[float]:
    """log₁₀ of the last epoch's loss of each run, or of the best rate's, if the runs have several."""
    last = [min(max(epoch_losses(run)[-1], SMALLEST), LARGEST) for run in runs]
    return [float(np.log10(min(last)))] if runs[0].config["optim.name"] == "sgd" else list(np.log10(last))


def ended(runs: Sequence[Run]) -> bool:
    return bool(runs) and all(run.status in ENDED for run in runs)


def early(run: Run, metric: str) -> list[float]:
    """The values of a metric in the looks of the first steps after the first epoch."""
    first = epoch_ends(run)[0]
    looks = [r for r in run.records if records.PROBE_VERSION in r and first <= r["step"] < first + EARLY_STEPS]
    return [r[metric] for r in looks if r.get(metric) is not None]


def trained_share(stem: str) -> float:
    """The share of the parameters that get a gradient from 64 random images of 32 pixels, with random logits."""
    torch.manual_seed(0)
    model = resnet18(DataShape(3, 32, 10, "small"), stem=stem)
    F.cross_entropy(model(torch.randn(64, 3, 32, 32)), torch.arange(64) % 10).backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return (gradients != 0).double().mean().item()


def growth_ratios(noise: Runs | None, cell: Cell) -> str:
    """E‖g_B‖²/‖g‖² at the start and after the first epoch. "–" where it was not measured."""
    members = in_cell(noise, "CLR", cell) if noise else []
    looks = [r for run in members for r in run.records if records.BATCH_GRAD_NORM_SQ in r]
    ratios = [r.get(records.GROWTH_RATIO) for r in looks]
    return " ".join("∞" if ratio is None else f"{ratio:.3g}" for ratio in ratios) or "–"


def row(runs: Runs, noise: Runs | None, cell: Cell) -> list[str]:
    """What is known of a cell. "–" stands for a method whose runs have not ended."""
    finals = []
    for method in METHODS:
        members = in_cell(runs, method, cell)
        finals.append(" ".join(f"{10**y:.2g}" for y in response(members)) if ended(members) else "–")
    *of_looks, steps = of_clr(clr) if ended(clr := in_cell(runs, "CLR", cell)) else ["–"] * 5
    return [cell[0], cell[1], "yes" if cell[2] else "no", *of_looks, growth_ratios(noise, cell), steps, *finals]


def of_clr(clr: Sequence[Run]) -> list[str]:
    """The first step, the contraction, both indices, and the steps to a loss of 0.01."""
    contraction = [1 - r for run in clr for r in early(run, records.DECREASE_RATIO)]
    indices = [[v for run in clr for v in early(run, key)] for key in INDICES]
    first = [next(r[records.TRAIN_LR] for r in run.records if records.TRAIN_LR in r) for run in clr]
    medians = [f"{median(first):.2g}", f"{median(contraction):.2f}", *(f"{median(index):.2f}" for index in indices)]
    return [*medians, " ".join(f"{steps_to(0.01, run):.0f}" for run in clr)]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(sweep: Path, noise_sweep: Path | None = None) -> None:
    runs = Runs.read(sweep)
    if not runs:
        sys.exit(f"no runs in {sweep}: corridor-sweep figure=stem makes them")
    noise = Runs.read(noise_sweep) if noise_sweep else None
    header = [
        *FACTORS,
        "first h",
        "contraction",
        "index, autodiff",
        "index, secant",
        "noise",
        "steps of CLR to 0.01",
        *(f"last loss, {m}" for m in METHODS),
    ]
    cells = [cell for cell in product(*LEVELS) if any(ended(in_cell(runs, method, cell)) for method in METHODS)]
    print(table(header, [row(runs, noise, cell) for cell in cells]), end="\n\n")
    for method in METHODS:
        stems = [s for s in LEVELS[0] if all(ended(in_cell(runs, method, (s, *rest))) for rest in product(*LEVELS[1:]))]
        if not stems:
            print(f"{method}: no stem has all runs")
            continue
        levels = (stems, *LEVELS[1:])
        y = np.array([response(in_cell(runs, method, cell)) for cell in product(*levels)])
        explained = shares(y.reshape(*map(len, levels), -1), len(FACTORS))
        said = [f"{' × '.join(FACTORS[i] for i in subset)} {share:.1%}" for subset, share in explained.items()]
        print(f"{method}, stems {', '.join(stems)}: {'; '.join(said)}; seeds {1 - sum(explained.values()):.1%}")
    print("\nparameters with a gradient: " + ", ".join(f"{stem} {trained_share(stem):.1%}" for stem in LEVELS[0]))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
