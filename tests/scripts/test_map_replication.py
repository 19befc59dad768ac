"""`scripts/map_replication.py`: sign and threshold of the first settings, tested on the fresh ones."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corridor_exp.runs import thinned
from tests.figures.test_map import BAD, GOOD, made_up

script = runpy.run_path(str(Path(__file__).parents[2] / "scripts/map_replication.py"))
FIRST = [GOOD] * 6 + [BAD] * 6
STATED = "CLR ends below where the contraction bound is low: "


def write(place: Path, name: str, bounds: Sequence[float], losses: Sequence[float]) -> None:
    runs = [replace(run, directory=Path(name) / "0") for run in made_up(bounds, losses, "cifar10")]
    thinned.write(runs, place / name, thinned.of_the_map)


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([GOOD] * 5 + [BAD] * 5, "holds"),
        ([BAD] * 5 + [GOOD] * 5, "is contradicted"),
        ([GOOD, BAD] * 5, "not decided: the interval holds ½"),
        ([GOOD] * 4 + [BAD] * 6, "not decided: 8 cases below and 12 above, and 10 of each are needed"),
    ],
)
def test_the_verdict(losses: list[float], verdict: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "map_cifar", np.linspace(0.1, 0.9, 12), FIRST)
    write(tmp_path, "map_fresh", np.linspace(0.1, 0.9, 10), losses)
    script["main"](tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert STATED + verdict in printed
    assert printed[:2] == [
        "map_cifar: 12 settings, 12 below, 0 tie, 12 above",
        f"map_fresh: 10 settings, {2 * losses.count(GOOD)} below, 0 tie, {2 * losses.count(BAD)} above",
    ]


def test_a_statement_whose_sign_the_first_settings_lack_is_not_decided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "map_cifar", np.linspace(0.1, 0.9, 12), FIRST[::-1])
    write(tmp_path, "map_fresh", np.linspace(0.1, 0.9, 10), [GOOD] * 5 + [BAD] * 5)
    script["main"](tmp_path)
    assert "is high: not decided: the first settings have the other sign" in capsys.readouterr().out


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    write(tmp_path, "map_cifar", np.linspace(0.1, 0.9, 12), FIRST)
    with pytest.raises(SystemExit, match="no complete settings of map_fresh in"):
        script["main"](tmp_path)
