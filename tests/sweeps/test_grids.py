from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from corridor_exp.config.compose import compose_grids, compose_jobs
from corridor_exp.config.options import CONF_DIR, option_groups, our_option
from corridor_exp.errors import UsageError
from corridor_exp.runs import records
from corridor_exp.sweeps.grids import figure_grids, load_figure, union


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
    with pytest.raises(UsageError, match=r"mine\.yaml is not YAML: "):
        figure_grids([folder], "mine", None, [])


def test_a_scale_may_have_a_line_for_each_grid(folder: Path) -> None:
    file = folder / "figure" / "mine.yaml"
    file.write_text("grids: [optim=clr, optim=sgd]\nscales: {tiny: [epochs=2, epochs=3]}\n")
    assert figure_grids([folder], "mine", "tiny", []) == [
        ["epochs=1", "seed=0", "epochs=2", "optim=clr"],
        ["epochs=1", "seed=0", "epochs=3", "optim=sgd"],
    ]
    file.write_text("grids: [optim=clr, optim=sgd]\nscales: {tiny: [epochs=2]}\n")
    with pytest.raises(UsageError, match=r"1 lines for 2 grids"):
        figure_grids([folder], "mine", "tiny", [])


def test_a_figure_without_runs_says_how_it_is_drawn() -> None:
    with pytest.raises(UsageError, match="needs no runs: draw it by corridor-figures fig1"):
        figure_grids([CONF_DIR], "fig1", "mini", [])


SAID = {
    *("seed", "model", "model.width", "model.activation", "batch_size", "epochs", "optim", "probe", "log_every"),
    *("dataset", "dataset.augment", "dataset.drop_last"),
    *("engine.precision", "engine.channels_last", "engine.micro_batch", "engine.threads"),
}
FIGURES = sorted(file.stem for file in CONF_DIR.glob("figure/*.yaml") if file.stem != "fig1")
MAP = [figure for figure in FIGURES if figure.startswith("map")]
BENCHMARKS = [name for name in FIGURES if name.startswith("rivals")]


@pytest.mark.parametrize("scale", ["full", "mini", "smoke"])
@pytest.mark.parametrize("figure", sorted({*FIGURES} - {*MAP}))
def test_every_figure_composes_at_every_scale(figure: str, scale: str) -> None:
    """In the paper's figures CLR has the same runs for each seed: three seeds, or one in a smoke test."""
    grids = figure_grids([CONF_DIR], figure, scale, ["engine.threads=1"])
    if figure in BENCHMARKS:  # of which one optimizer says enough here
        compose_grids([grid for grid in grids if "optim=clr" in grid])
        return
    runs = compose_grids(grids)
    if not figure.startswith("fig"):  # not the paper's
        return
    seeds = Counter(config.seed for config in runs if config.optim.name == "clr")
    assert len(set(seeds.values())) == 1
    assert set(seeds) == {10, 11, 12} or (scale == "smoke" and set(seeds) == {0})  # docs/rules.md
    for grid in grids:  # no default decides silently
        assert {word.partition("=")[0] for word in grid} >= SAID


ON_CIFAR = {
    "adamw",
    "clr",
    "clr_trust",
    "momo",
    "ngn",
    "ngn_momentum",
    "ponos",
    "prodigy",
    "schedule_free",
    "sgd",
    "sls",
    "sps_max",
}


@pytest.mark.parametrize("name", ["rivals_small", "rivals_cifar"])
def test_a_benchmark_has_methods_at_their_default_and_at_five_settings_a_decade_apart(name: str) -> None:
    """Three seeds at the default, one at the others, alike on all problems, each of which has a target."""
    grids, figure = figure_grids([CONF_DIR], name, "full", ["engine.threads=1"]), load_figure([CONF_DIR], name)
    first = figure.settings[0].split()
    assert [f"name={target}" for target in figure.targets] == [problem.split()[0] for problem in figure.settings]
    assert len(grids) == len(figure.settings) * len(figure.grids)
    runs = compose_grids([grid for grid in grids if first[0] in grid])
    methods = {config.optim.name for config in runs}
    assert methods == (set(option_groups([CONF_DIR])["optim"]) - {"polyak"} if name == "rivals_small" else ON_CIFAR)
    for method in methods:
        mine = [config.optim.keywords() for config in runs if config.optim.name == method]
        (key,) = {k for of_one in mine for k, v in of_one.items() if any(other[k] != v for other in mine)}
        default = our_option("optim", method)[key]
        tried = sorted({of_one[key] for of_one in mine if of_one[key] is not None})
        assert [of_one[key] for of_one in mine].count(default) >= 3
        assert len(tried) == 5
        assert all(b / a == pytest.approx(10) for a, b in pairwise(tried))
        assert default is None or default in tried


@pytest.mark.parametrize("figure", MAP)
def test_a_setting_of_the_map_has_the_nine_runs_of_its_rules(figure: str) -> None:
    """docs/when-clr-works.md: two under CLR, one with a cap, one under clr_trust, five rates; of the last settings."""
    runs = [config for grid in figure_grids([CONF_DIR], figure, None, [])[-4:] for config in compose_jobs(grid, True)]
    settings = Counter(repr((run.dataset, run.model, run.batch_size, run.max_steps)) for run in runs)
    assert set(settings.values()) == {9}
    methods = Counter((run.optim.name, run.optim.step_cap, run.seed, bool(run.probe.components())) for run in runs)
    clr, capped = ("clr", None, 0, True), ("clr", 1, 0, False)
    others = {
        clr: 1,
        ("clr", None, 1, True): 1,
        capped: 1,
        ("clr_trust", None, 0, False): 1,
        ("sgd", None, 0, False): 5,
    }
    assert methods == {method: count * len(settings) for method, count in others.items()}
    assert all(run.probe.until == run.max_steps // 20 for run in runs if run.probe.components())


def test_each_setting_of_a_figure_meets_each_of_its_grids(folder: Path) -> None:
    (folder / "figure" / "pairs.yaml").write_text("common: a=1\nsettings: [b=1, b=2]\ngrids: [c=1, c=2]\n")
    found = figure_grids([folder], "pairs", None, ["d=1"])
    assert [line[1:] for line in found] == [[f"b={b}", f"c={c}", "d=1"] for b in (1, 2) for c in (1, 2)]


def test_a_figure_without_grids_is_swept_by_those_whose_runs_it_shows(folder: Path) -> None:
    other = folder / "figure" / "other.yaml"
    other.write_text("common: width=1\ngrids: [optim=clr lr=1, optim=sgd]\nscales: {tiny: [epochs=2, epochs=3]}\n")
    file = folder / "figure" / "shows.yaml"
    file.write_text("runs: other\noptim: clr\n")
    assert figure_grids([folder], "shows", "tiny", ["l2=1"]) == [
        ["width=1", "epochs=1", "seed=0", "epochs=2", "optim=clr", "lr=1", "l2=1"]
    ]
    file.write_text("runs: other\n")
    assert len(figure_grids([folder], "shows", None, [])) == 2
    file.write_text("runs: other\ngrids: [optim=adam]\n")  # its own alone
    assert figure_grids([folder], "shows", None, []) == [["optim=adam"]]


def test_figures_that_share_runs_have_the_same(tmp_path: Path) -> None:
    """Figures 4 and 7 at full size are Figure 2's runs under CLR, to the last key."""

    def runs(figure: str) -> list[dict[str, object]]:
        grids = figure_grids([CONF_DIR], figure, "full", ["engine.threads=1"])
        found = [config.identity() for grid in grids for config in compose_jobs(grid, True)]
        return [run for run in found if run["optim"]["name"] == "clr"]  # type: ignore[index]

    assert runs("fig7") == runs("fig2")
    assert runs("fig4") == [*runs("fig2"), *runs("fig8")]


@pytest.mark.parametrize("figure", FIGURES)
def test_panels_are_metrics_of_the_records(figure: str) -> None:
    known = {value for name, value in vars(records).items() if name.isupper() and isinstance(value, str)}
    assert {metric for panel in load_figure([CONF_DIR], figure).panels for metric in panel.split()} <= known


def test_a_quotation_without_an_end_names_the_file(folder: Path) -> None:
    (folder / "figure" / "torn.yaml").write_text('grids: ["optim=clr name=\'a"]\n')
    with pytest.raises(UsageError, match=r"torn\.yaml: grids\.0.*[Nn]o closing quotation"):
        load_figure([folder], "torn")
