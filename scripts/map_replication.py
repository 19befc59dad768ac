"""Does what the first settings of CIFAR-10 showed hold on fresh ones? The rules are in docs/when-clr-works.md.

    python scripts/map_replication.py outputs/reference/map

The folder holds the runs of `figure=map_cifar` and of `figure=map_fresh`, each in a folder of its name or in the files
that scripts/thin_lines.py wrote. Sign and threshold of each predictor come from the first, and are tested on the
second.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from corridor_exp.figures.cases import ABOVE, BELOW, CLR, PRIMARY, TIE, Case, cases, decided
from corridor_exp.figures.map import TESTED, Row, listed, samples, transfer
from corridor_exp.runs import thinned

FIRST, FRESH = "map_cifar", "map_fresh"
STATED = {PRIMARY: "low", "early loss": "low", "width": "high"}  # where CLR ends below
ENOUGH = 10  # cases of each class


def verdict(row: Row, counts: Counter[str]) -> str:
    if row.side != STATED[row.predictor]:
        return "not decided: the first settings have the other sign"
    if row.auc is None or min(counts[BELOW], counts[ABOVE]) < ENOUGH:
        return f"not decided: {counts[BELOW]} cases below and {counts[ABOVE]} above, and {ENOUGH} of each are needed"
    if row.auc.low > 0.5:
        return "holds"
    return "is contradicted" if row.auc.high < 0.5 else "not decided: the interval holds ½"


def main(place: Path) -> None:
    runs = thinned.runs_below(place)
    parts: dict[str, list[Case]] = {}
    for name in (FIRST, FRESH):
        found, left_out = cases(run for run in runs if run.directory.parent.name == name)
        parts[name] = decided(found, TESTED)
        if not parts[name]:
            sys.exit(f"no complete settings of {name} in {place}: corridor-sweep figure={name} makes them")
        seen = Counter(case.outcome for case in found if case.method == CLR)
        outcomes = [f"{seen[outcome]} {outcome}" for outcome in (BELOW, TIE, ABOVE)]
        said = [f"{len({case.setting for case in found})} settings", *outcomes]
        print(f"{name}: {', '.join([*said, *(f'{n} left out ({why})' for why, n in left_out.items())])}")
    fitted, fresh = parts[FIRST], parts[FRESH]
    rows = transfer(fitted, fresh, samples(fresh))
    print("", *listed(rows, "first", "fresh"), "", sep="\n")
    counts = Counter(case.outcome for case in fresh)
    for row in rows:
        if row.predictor in STATED:
            print(f"CLR ends below where the {row.predictor} is {row.side}: {verdict(row, counts)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
