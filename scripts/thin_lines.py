"""python scripts/thin_lines.py map|benchmark NAME SWEEP…: write the runs of sweeps to NAME-1.jsonl, NAME-2.jsonl, …

A line is a run, with what `corridor-figures map` or the figure of a benchmark reads. A file stays below a megabyte. A
run that has not ended is left out, and of `map` one without `max_steps`.
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
    needs_steps = sys.argv[1] == "map"
    ended = [run for run in found if run.status in ENDED and (run.config.get("max_steps") or not needs_steps)]
    if not ended:
        sys.exit(f"no runs that have ended in {', '.join(sys.argv[3:])}")
    files = thinned.write(ended, Path(sys.argv[2]), thinned.KEPT[sys.argv[1]])
    print(f"{len(ended)} of {len(found)} runs in {', '.join(map(str, files))}")
