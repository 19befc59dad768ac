from __future__ import annotations

from pathlib import Path

import pytest

from corridor_exp.config import CONF_DIR
from corridor_exp.errors import UsageError
from corridor_exp.sweeps.grids import figure_grids, union


def test_what_stands_before_the_first_plus_holds_for_every_grid() -> None:
    assert union(["seed=0,1", "+", "optim=clr", "+", "optim=sgd", "optim.lr=0.1,1"]) == [
        ["seed=0,1", "optim=clr"],
        ["seed=0,1", "optim=sgd", "optim.lr=0.1,1"],
    ]
    assert union(["optim=sgd", "optim.lr=0.1,1"]) == [["optim=sgd", "optim.lr=0.1,1"]]
    assert union(["+", "optim=clr", "+", "+key=1"]) == [["optim=clr"], ["+key=1"]]


@pytest.mark.parametrize("line", ["seed=0 +", "seed=0 + + optim=clr"])
def test_a_plus_without_a_grid_is_a_mistake(line: str) -> None:
    with pytest.raises(UsageError, match="no override after it"):
        union(line.split())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for group in ("figure", "scale"):
        (tmp_path / group).mkdir()
    (tmp_path / "figure" / "mine.yaml").write_text(
        "common: epochs=30\n"
        "grids: [optim=clr, 'optim=sgd optim.lr=0.1,1']\n"
        "scales: {tiny: dataset.train_size=100}\n"
    )  # fmt: skip
    (tmp_path / "scale" / "tiny.yaml").write_text("common: epochs=1 seed=0\n")
    return tmp_path


def test_a_later_word_wins_figure_scale_grid_command_line(folder: Path) -> None:
    assert figure_grids([folder], "mine", "tiny", ["epochs=2"]) == [
        ["epochs=30", "epochs=1", "seed=0", "dataset.train_size=100", "optim=clr", "epochs=2"],
        ["epochs=30", "epochs=1", "seed=0", "dataset.train_size=100", "optim=sgd", "optim.lr=0.1,1", "epochs=2"],
    ]
    assert figure_grids([folder], "mine", None, [])[0] == ["epochs=30", "optim=clr"]


def test_mistakes_name_the_closest_word(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"figure=mien: no such option; did you mean 'mine'\?"):
        figure_grids([folder], "mien", None, [])
    with pytest.raises(UsageError, match=r"scale=tyny: no such option; did you mean 'tiny'\?"):
        figure_grids([folder], "mine", "tyny", [])
    with pytest.raises(UsageError, match="a union already"):
        figure_grids([folder], "mine", None, ["+", "seed=1"])
    (folder / "figure" / "mine.yaml").write_text("grid: [optim=clr]\n")
    with pytest.raises(UsageError, match=r"mine\.yaml: "):
        figure_grids([folder], "mine", None, [])
    (folder / "figure" / "mine.yaml").write_text("grids: [\n")
    with pytest.raises(UsageError, match=r"mine\.yaml: "):
        figure_grids([folder], "mine", None, [])


def test_every_figure_has_grids_at_every_scale() -> None:
    for figure in CONF_DIR.glob("figure/*.yaml"):
        for scale in CONF_DIR.glob("scale/*.yaml"):
            assert figure_grids([CONF_DIR], figure.stem, scale.stem, [])
