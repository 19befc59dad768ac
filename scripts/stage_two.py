"""The next grid of a sweep in two stages, by the rule of docs/rules.md: a line for the `grids` of its figure.

    python scripts/stage_two.py SWEEP [TAU]     default: 0.1, the τ of ImageNet's miniature

Stage one has one seed at each rate. While its best rate is at an end, the line adds the next rate, twice or half of it.
Otherwise the line holds the best rate and its neighbours, √2 below and above, with all seeds of CLR. While the best of
the rates with all seeds is at an end of these, it adds the next one, √2 beyond. Prints nothing where nothing is to add.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from corridor_exp.figures.claims import best_rate, by_rate
from corridor_exp.figures.run_statistics import UndecidedError
from corridor_exp.runs.groups import Runs

GRID = "  - optim=sgd optim.momentum=0 optim.weight_decay=0 optim.lr={rates} seed={seeds}"


def next_grid(runs: Runs, tau: float) -> str:
    """The grid that the rule asks for, or nothing."""
    seeds = sorted({run.seed or 0 for run in runs.where(optim__name="clr")})
    rates = by_rate(runs.where(optim__name="sgd", dataset__held_out=None))
    complete = {rate: found for rate, found in rates.items() if {run.seed for run in found} >= set(seeds)}
    if complete:
        return _beyond(best_rate(complete, tau), list(complete), math.sqrt(2), seeds)
    best = best_rate(rates, tau)
    first = _beyond(best, list(rates), 2.0, seeds[:1])
    return first or _grid([best / math.sqrt(2), best, best * math.sqrt(2)], seeds)


def _beyond(best: float, rates: list[float], factor: float, seeds: list[int]) -> str:
    if best == max(rates):
        return _grid([best * factor], seeds)
    return _grid([best / factor], seeds) if best == min(rates) else ""


def _grid(rates: list[float], seeds: list[int]) -> str:
    return GRID.format(rates=",".join(f"{rate:.2g}" for rate in rates), seeds=",".join(map(str, seeds)))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    found = Runs.read(Path(sys.argv[1]))
    if found.unfinished:
        sys.exit(f"{found.unfinished}, and the rule needs them all")
    try:
        line = next_grid(found, float(sys.argv[2]) if sys.argv[2:] else 0.1)
    except UndecidedError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    if line:
        print(line)
