from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from corridor_exp.cli.figures import PAPER, main
from corridor_exp.report.pictures import read_claims
from tests.conftest import unpack_cifar10, unpack_imagenet
from tests.figures.synthetic import SEEDS, as_figure, write_run

REFERENCE = Path(__file__).parents[2] / "outputs" / "reference"


@pytest.fixture
def fig5(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs" / "fig5-mini" / "sweep-0123"
    for seed in SEEDS:
        write_run(folder / str(seed), [1.0, 0.05, 0.04], seed=seed)
    as_figure(folder, "fig5")
    return folder


def test_the_newest_sweep_is_drawn_with_a_caption(fig5: Path, tmp_path: Path, capsys) -> None:
    main(["fig5"])
    said = capsys.readouterr().out
    assert said.endswith((tmp_path / "outputs/figures/fig5.txt").read_text())
    for part in ("fig5", "Scale: mini", "Seeds 30, 31, 32", "2026-01-02", "0123456789ab"):
        assert part in said
    out = tmp_path / "outputs" / "figures"
    assert (out / "fig5.png").stat().st_size > 10_000
    assert (out / "fig5.pdf").read_bytes().startswith(b"%PDF")
    rows = list(csv.DictReader((out / "fig5.csv").open()))
    assert [(row["seed"], row["epoch"], row["median"]) for row in rows] == [
        (str(seed), epoch, loss) for seed in SEEDS for epoch, loss in (("1.0", "1.0"), ("2.0", "0.05"), ("3.0", "0.04"))
    ]


def test_a_caption_says_by_what_the_runs_are_not_those_of_the_figure(fig5: Path, capsys) -> None:
    manifest = json.loads((fig5 / "sweep.json").read_text())
    own = ["dataset.root=DIR", "processes=no", "+", "seed=3", "engine.precision=fp32", "logger=jsonl", "~probe.drift"]
    manifest["command"] += [*own[:3], "model=mlp", "dataset=digits", *own[3:], "+dataset.root=DIR", "slurm.no=1"]
    (fig5 / "sweep.json").write_text(json.dumps(manifest))
    main(["fig5"])
    said = capsys.readouterr().out
    assert "ResNet-50 on CIFAR-10 under CLR, with model=mlp, dataset=digits. Scale: mini." in said
    assert not any(word in said for word in own if word != "+")


def test_runs_of_something_else_are_named_as_what_they_are_or_not_drawn(tmp_path: Path, capsys) -> None:
    write_run(tmp_path / "runs" / "a", [1.0, 0.5], dataset={"name": "digits"}, model={"name": "mlp"})
    main(["fig5", "--runs", "runs"])
    assert "fig5: mlp on digits. Seed 30; 1 run" in capsys.readouterr().out
    for figure in ("rivals", "rivals_small", "map"):
        with pytest.raises(SystemExit, match="2"):
            main([figure, "--runs", "runs"])
        assert "no runs" in capsys.readouterr().err


def test_runs_may_lie_anywhere(fig5: Path, tmp_path: Path) -> None:
    elsewhere = fig5.rename(tmp_path / "fig5")
    main(["fig5", "--runs", str(elsewhere), "--out", "a"])
    main(["fig5", "--runs", str(tmp_path), "--out", "b"])
    main(["stability", "--runs", str(elsewhere), "--out", "c"])
    assert (tmp_path / "a/fig5.csv").read_text() == (tmp_path / "b/fig5.csv").read_text()
    assert (tmp_path / "c/stability.png").exists()


def sweep(folder: Path, figure: str, scale: str, batches: dict[int, str]) -> None:
    """One seed under each optimizer and batch size."""
    for batch, optim in batches.items():
        write_run(folder / f"{optim}{batch}", [1.0, 0.5], h=[0.1, 0.2], optim=optim, batch_size=batch)
    as_figure(folder, figure, scale)


def drawn(name: str) -> set[str]:
    return {row["label"] for row in csv.DictReader(Path(f"outputs/figures/{name}.csv").open())}


def test_figures_share_runs(tmp_path: Path, capsys) -> None:
    """Figures 4, 7 and 9 show the newest runs under CLR of Figure 2, of one scale, beside their own."""
    outputs = tmp_path / "outputs"
    sweep(outputs / "fig2-mini" / "sweep-1", "fig2", "mini", {512: "clr", 64: "sgd"})
    for name in ("fig4", "fig7"):
        main([name])
        assert drawn(name) == {"CLR"}
    sweep(outputs / "fig2" / "sweep-2", "fig2", "full", {4096: "clr"})
    with pytest.raises(SystemExit, match="2"):
        main(["fig9"])  # Figure 2's runs alone are not Figure 9
    sweep(outputs / "fig9-mini" / "sweep-3", "fig9", "mini", {32: "clr"})
    main(["fig9"])
    assert drawn("fig9") == {"CLR, batch 32", "CLR, batch 512"}  # and not batch 4096, which is full
    assert "fig9-mini/sweep-3, " in capsys.readouterr().out
    sweep(
        outputs / "fig7-mini" / "sweep-4", "fig7", "mini", {8: "clr", 16: "clr"}
    )  # runs of its own, by its own command
    main(["fig7"])
    assert drawn("fig7") == {"CLR, batch 8", "CLR, batch 16"}
    main(["claims", "--json"])
    scales = {row["figure"]: row["scale"] for row in json.loads(capsys.readouterr().out.split("\n", 1)[1])}
    assert scales["fig9"] == "mini"


def test_a_folder_of_figures_has_no_other_runs(tmp_path: Path) -> None:
    """Where only Figure 2 lies in it, Figure 7 is Figure 2's runs under CLR, and not every run below."""
    sweep(tmp_path / "full" / "fig2", "fig2", "full", {4096: "clr", 64: "sgd"})
    main(["fig7", "--runs", "full"])
    assert drawn("fig7") == {"CLR"}
    with pytest.raises(SystemExit, match="2"):
        main(["fig5", "--runs", "full"])


def test_runs_of_no_figure_are_joined_with_none(tmp_path: Path) -> None:
    write_run(tmp_path / "mine" / "0", [1.0, 0.5])
    main(["fig9", "--runs", "mine"])
    assert Path("outputs/figures/fig9.csv").read_text().count("train/epoch_loss") == 2


def test_claims_as_text_and_as_json(fig5: Path, capsys) -> None:
    main(["claims", "allow_targets=[mylib]"])  # as the other commands take it
    text = capsys.readouterr().out
    assert "reproduced      fig5  ResNet-50 converges  [mini]" in text
    assert "30: 1.77, 31: 1.77, 32: 1.77" in text  # 1 + ln 10/ln 20, from a loss of 1 to 0.05
    main(["claims", "--json", "--runs", str(fig5)])
    rows = {row["statement"]: row for row in json.loads(capsys.readouterr().out)}
    steps = 1 + math.log(10) / math.log(20)
    assert rows["ResNet-50 converges"]["values"] == pytest.approx(dict.fromkeys(("30", "31", "32"), steps))
    assert rows["VGG converges"]["remark"] == "no runs"
    kept = read_claims(Path("outputs/figures"))
    assert kept is not None
    assert {(row["statement"], row["verdict"]) for row in kept} >= {("ResNet-50 converges", "reproduced")}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["fig22"], "did you mean 'fig2'?"),
        (["fig2"], "no runs of fig2 in outputs/ and outputs/reference/: corridor-sweep figure=fig2 scale=mini"),
        (["fig2", "--runs", "nowhere"], "no runs of fig2 in nowhere"),
        (["claims"], "corridor-sweep figure=fig2"),
        (["stability"], "--runs DIR"),
        (["stability", "--runs", "nowhere"], "no runs in nowhere"),
        (["fig1", "--bogus"], "--bogus"),
    ],
)
def test_mistakes_are_one_line(argv: list[str], said: str, capsys) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_all_goes_on_over_the_figures_whose_runs_are_missing(fig5: Path, capsys) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["all"])
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == ["fig1", "fig5"]
    assert "no runs of fig2, fig3, fig4, fig6, fig7, fig8, fig9 in outputs/ and outputs/reference/" in err
    assert err.count("\n") == 1


def test_the_reference_has_every_figure(tmp_path: Path, capsys) -> None:
    main(["all", "--runs", str(REFERENCE), "--out", "drawn"])
    for name in PAPER:
        assert (tmp_path / "drawn" / f"{name}.png").exists()
        assert len((tmp_path / "drawn" / f"{name}.csv").read_text().splitlines()) > 2
    assert "Scale: mini" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(600)
def test_all_nine_in_a_smoke_test(
    shared_data: Path, tmp_path: Path, corridor_sweep: Callable[..., int], capsys
) -> None:
    """Real images through corridor-sweep, each figure's runs at the smallest size, and drawn."""
    unpack_cifar10(shared_data, tmp_path / "data" / "cifar10", "0")
    unpack_imagenet(shared_data, tmp_path / "data" / "imagenet")
    root = f"dataset.root={tmp_path}/data/${{dataset.name}}"
    for name in PAPER[1:]:
        assert corridor_sweep(f"figure={name}", "scale=smoke", "processes=2", root) == 0
    capsys.readouterr()
    main(["all"])
    main(["claims", "allow_targets=[mylib]"])  # as the other commands take it
    said = capsys.readouterr().out
    assert said.count("Scale: smoke") == len(PAPER) - 1
    assert "no runs" not in said
    for name in PAPER:
        assert Path(f"outputs/figures/{name}.png").exists()


def test_a_figure_without_panels_says_where_its_runs_are_read(capsys) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["stem", "--runs", str(REFERENCE)])
    assert exit_.value.code == 2
    assert "stem has no panels to draw: conf/figure/stem.yaml says" in capsys.readouterr().err


def test_a_claim_waits_for_the_runs_that_its_figure_shares(tmp_path: Path, capsys) -> None:
    """Figure 3's largest batch lies among the runs of Figure 8."""
    for seed in SEEDS:
        for batch in (64, 128):
            write_run(tmp_path / "fig3" / f"{batch}-{seed}", [1.0, 0.005], seed=seed, batch_size=batch)
        write_run(tmp_path / "fig8" / str(seed), [1.0, 0.005], seed=seed, batch_size=256)
    as_figure(tmp_path / "fig3", "fig3")

    def row() -> dict[str, str]:
        main(["claims", "--json", "--runs", str(tmp_path)])
        return next(row for row in json.loads(capsys.readouterr().out) if row["figure"] == "fig3")

    assert (row()["verdict"], row()["remark"]) == ("undecided", "the runs of fig8 are missing")
    as_figure(tmp_path / "fig8", "fig8")
    assert row()["verdict"] == "reproduced"


def test_lines_of_runs_without_epochs_can_be_shown_as_stability(tmp_path: Path) -> None:
    for rate in (0.1, 1.0):
        config = {"seed": 0, "optim.name": "sgd", "optim.lr": rate}
        line = {"run": "s/0", "config": config, "summary": {"status": "diverged"}, "records": [{"step": 3}]}
        with open(tmp_path / "map-1.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
    main(["stability", "--runs", str(tmp_path), "--out", "a"])
    assert (tmp_path / "a/stability.png").exists()


def test_the_map_leaves_out_a_run_that_cannot_be_read(fig5: Path, capsys) -> None:
    (fig5 / "30" / "config.yaml").write_text("a: [")
    (fig5 / "sweep.json").unlink()
    for seed in (31, 32):
        (fig5 / str(seed) / "summary.json").write_text('{"status": 7}')
    with pytest.raises(SystemExit, match="2"):
        main(["map", "--runs", str(fig5)])
    said = capsys.readouterr().err
    assert f"{fig5}/30: config.yaml cannot be read" in said
    assert "no runs in" in said
