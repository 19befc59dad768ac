"""`scripts/stage_two.py`: the grids that the rule of docs/rules.md asks for, one after the other."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corridor_exp.runs.groups import Runs
from tests.figures.synthetic import SEEDS, as_figure, write_run

next_grid: Callable[[Runs, float], str] = runpy.run_path(str(Path(__file__).parents[2] / "scripts/stage_two.py"))[
    "next_grid"
]
ALL = ",".join(map(str, SEEDS))


def sweep(folder: Path, stage_one: dict[float, list[float]], stage_two: dict[float, list[float]]) -> Runs:
    for seed in SEEDS:
        write_run(folder / f"clr{seed}", [1.0, 0.1], seed=seed)
        for rate, losses in stage_two.items():
            write_run(folder / f"two{rate}-{seed}", losses, optim="sgd", lr=rate, seed=seed)
    for rate, losses in stage_one.items():
        write_run(folder / f"one{rate}", losses, optim="sgd", lr=rate, seed=SEEDS[0])
    return as_figure(folder, "fig8", "mini")


LATE, EARLY, NEVER, NEARLY = [1.0, 0.5, 0.1], [1.0, 0.1, 0.1], [1.0, 0.9, 0.8], [1.0, 0.9, 0.2]


@pytest.mark.parametrize(
    ("stage_one", "stage_two", "said"),
    [
        ({0.1: LATE, 0.2: EARLY, 0.5: LATE}, {}, f"optim.lr=0.14,0.2,0.28 seed={ALL}"),
        ({0.1: NEVER, 0.2: NEARLY, 0.5: NEVER}, {}, f"optim.lr=0.14,0.2,0.28 seed={ALL}"),  # by the last loss
        ({0.1: EARLY, 0.2: LATE}, {}, f"optim.lr=0.05 seed={SEEDS[0]}"),
        ({0.1: LATE, 2.0: EARLY}, {}, f"optim.lr=4 seed={SEEDS[0]}"),
        ({0.1: LATE, 0.2: EARLY, 0.5: LATE}, {0.14: LATE, 0.2: EARLY, 0.28: LATE}, None),
        ({0.1: LATE, 0.2: EARLY, 0.5: LATE}, {0.14: LATE, 0.2: LATE, 0.28: EARLY}, f"optim.lr=0.4 seed={ALL}"),
        ({0.1: LATE, 0.2: EARLY, 0.5: LATE}, {0.14: EARLY, 0.2: LATE, 0.28: LATE}, f"optim.lr=0.099 seed={ALL}"),
    ],
)
def test_the_rule(
    stage_one: dict[float, list[float]], stage_two: dict[float, list[float]], said: str | None, tmp_path: Path
) -> None:
    line = next_grid(sweep(tmp_path, stage_one, stage_two), 0.1)
    assert line == (f"  - optim=sgd optim.momentum=0 optim.weight_decay=0 {said}" if said else "")


def test_runs_that_have_not_ended_decide_nothing(tmp_path: Path) -> None:
    sweep(tmp_path, {0.1: LATE, 0.2: EARLY}, {})
    (tmp_path / "one0.2" / "summary.json").unlink()
    script = Path(__file__).parents[2] / "scripts/stage_two.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "1 of 5 runs are not finished, and the rule needs them all" in done.stderr
