"""python scripts/thin_lines.py map|benchmark FILE SWEEP…: write the runs of sweeps to one file, a line a run.

The lines hold what `corridor-figures map`, or the figure of a benchmark, reads. A run that has not ended is left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

from corridor_exp.runs import thinned
from corridor_exp.runs.layout import ENDED

if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in thinned.KEPT:
        sys.exit(__doc__)
    found = [run for sweep in sys.argv[3:] for run in thinned.runs_below(Path(sweep))]
    ended = [run for run in found if run.status in ENDED]
    thinned.write(ended, Path(sys.argv[2]), thinned.KEPT[sys.argv[1]])
    print(f"{len(ended)} of {len(found)} runs in {sys.argv[2]}")
