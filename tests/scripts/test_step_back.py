"""`scripts/step_back/compare.py`: our runs on curves that others have published."""

from __future__ import annotations

import csv
import runpy
from pathlib import Path
from typing import Any

import pytest

from corridor_exp.runs import records, thinned
from corridor_exp.runs.reading import Run

script = runpy.run_path(str(Path(__file__).parents[2] / "scripts/step_back/compare.py"))
EPOCHS = 20


def published(place: Path) -> Path:
    """Curves that rise by a hundredth an epoch, from 0.5 at rate 0.1 and from 0.4 at rate 1. Rows are in no order."""
    file = place / "their.csv"
    with file.open("w", newline="") as lines:
        out = csv.writer(lines)
        out.writerow(["epoch", "val_score", "val_score_std", "name", "lr", "train_loss"])
        for epoch in reversed(range(2 * EPOCHS)):
            for rate, start in (("0.1", 0.5), ("1", 0.4)):
                out.writerow([epoch, start + epoch / 100, 0.02, "prox-sps", rate, 1.0])
    return file


def ours(place: Path, name: str, cap: float | None, start: float) -> Path:
    tree: dict[str, Any] = {"name": "step_back", "seed": 0, "optim": {"name": name, "step_cap": cap}}
    lines = [
        {"step": e, "epoch": e, records.TRAIN_EPOCH_LOSS: 1.0, records.TEST_ACCURACY: start + e / 100}
        for e in range(EPOCHS)
    ]
    run = Run(Path("sweep") / "0", tree, {"status": "completed"}, lines)
    thinned.write([run], place / "runs", thinned.of_a_benchmark)
    return place


@pytest.mark.parametrize(
    ("cap", "start", "said"),
    [
        # The last ten of twenty epochs: their mean is 0.5 + 0.145.
        (0.1, 0.5, "sps_max, cap 0.1, epochs 11 to 20: 0.645 and 0.645 ± 0.020, +0.000: agrees"),
        (0.1, 0.514, "sps_max, cap 0.1, epochs 11 to 20: 0.659 and 0.645 ± 0.020, +0.014: agrees"),
        (0.1, 0.484, "sps_max, cap 0.1, epochs 11 to 20: 0.629 and 0.645 ± 0.020, -0.016: differs"),
        (1.0, 0.5, "sps_max, cap 1, epochs 11 to 20: 0.645 and 0.545 ± 0.020, +0.100: differs"),
    ],
)
def test_a_run_is_compared_with_the_curve_of_its_setting(
    cap: float, start: float, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script["main"](published(tmp_path), ours(tmp_path, "sps_max", cap, start), tmp_path / "figure.png")
    assert capsys.readouterr().out == said + "\n"
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "cap"), [("sps_max", 0.2), ("sps_max", None), ("clr", 0.1), ("momo", 0.1)])
def test_a_setting_that_nobody_published_is_named(name: str, cap: float | None, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has no run of a setting in .*their\.csv"):
        script["main"](published(tmp_path), ours(tmp_path, name, cap, 0.5), tmp_path / "figure.png")
