"""The further grids of a benchmark of step sizes: each method's best settings with all seeds.

    python scripts/rivals_stage_two.py RUNS FIGURE      e.g. outputs/rivals_small/sweep-1 rivals_small

Prints lines for the `grids` of conf/figure/FIGURE_best.yaml. A setting that is the best on one problem gets all seeds
on all problems, because a grid of a figure holds for all of its settings. Prints nothing where nothing is to add.
"""

from __future__ import annotations

import sys
from pathlib import Path

from corridor_exp.config.options import CONF_DIR, defaults_of_optimizers
from corridor_exp.errors import UsageError
from corridor_exp.figures.rivals import Method, methods_of
from corridor_exp.runs.groups import Runs
from corridor_exp.sweeps.grids import load_figure


def further_grids(methods: list[Method]) -> list[str]:
    """A line for each method with a best setting that lacks seeds."""
    seeds = {run.seed for method in methods for run in method.runs}
    best: dict[tuple[str, str], set[float]] = {}
    missing: set[int] = set()
    for method in methods:
        here = {run.seed for run in method.settings[method.tuned]}
        if method.tuned is not None and here < seeds:
            best.setdefault((method.name, method.setting), set()).add(method.tuned)
            missing |= {seed for seed in seeds - here if seed is not None}
    said = ",".join(map(str, sorted(missing)))
    return [
        f"  - optim={name} optim.{key}={','.join(f'{value:g}' for value in sorted(values))} seed={said}"
        for (name, key), values in sorted(best.items())
    ]


def main(runs: Path, figure: str) -> None:
    found = Runs.read(runs)
    if not found:
        sys.exit(f"no runs in {runs}: corridor-sweep figure={figure} makes them")
    if found.unfinished:
        sys.exit(f"{found.unfinished}, and the rule needs them all")
    try:
        targets = load_figure([CONF_DIR], figure).targets
    except UsageError as error:
        sys.exit(str(error))
    methods = methods_of(found, targets, defaults_of_optimizers())
    print("\n".join(further_grids(methods)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2])
