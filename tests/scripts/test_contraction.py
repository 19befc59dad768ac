"""`scripts/contraction.py`: the identity of the contraction along training on digits."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "contraction.py"


@pytest.mark.slow
def test_the_identity_holds_within_the_error_of_the_quadrature(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path / "looks"), "4"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("4 looks: the identity holds within the quadrature's error at 4\n")
    assert "the contraction is above the largest change at 0" in said
    rows = list(csv.DictReader((tmp_path / "looks.csv").open()))
    assert [row["activation"] for row in rows] == ["tanh", "tanh", "relu", "relu"]
    for row in rows:
        difference = abs(float(row["contraction"]) - float(row["by_quadrature"]))
        assert difference < (1e-12 if row["activation"] == "tanh" else 1e-3)
    assert (tmp_path / "looks.png").stat().st_size > 0
