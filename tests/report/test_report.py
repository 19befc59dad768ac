"""The page: what stands in it, read back from its text. `test_report_browser.py` opens it."""

from __future__ import annotations

import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from corridor_exp.cli.report import main
from corridor_exp.files import to_json
from corridor_exp.report.columns import Curve
from corridor_exp.report.page import write
from corridor_exp.runs import layout, reading, records

RESUME = {"resume": {"override": False}}  # without which a config.yaml is one that was cut


def write_run(folder: Path, lines: list[dict[str, Any]], config: dict[str, Any] | None = None, **summary: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({**(config or {"seed": 0}), **RESUME}))
    (folder / "records.jsonl").write_text("".join(to_json(line) + "\n" for line in lines))
    if summary:
        (folder / "summary.json").write_text(to_json(summary))
    return folder


def losses(*values: float | None) -> list[dict[str, Any]]:
    return [{"step": k, "epoch": 0, "time": k / 10, "train/loss": value} for k, value in enumerate(values)]


class Page(HTMLParser):
    """The table's cells, the tags, and the embedded data of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(directory: Path) -> Page:
    main([str(directory)])
    return Page((directory / "report.html").read_text())


def test_the_page_holds_the_numbers_of_real_runs(digits_run, tmp_path: Path, capsys) -> None:
    assert digits_run("epochs=3", "probe.every=2", "out_dir=all/clr") == 0
    assert digits_run("epochs=3", "optim=sgd", "optim.lr=1e30", "out_dir=all/deep/er/sgd") == 1
    capsys.readouterr()
    page = page_of(Path("all"))
    assert "2 runs: all/report.html" in capsys.readouterr().out
    for run, folder in zip(page.data["runs"], (tmp_path / "all/clr", tmp_path / "all/deep/er/sgd"), strict=True):
        written = list(records.read_records(folder))
        assert set(run["curves"]) == {key for record in written for key in record} - {"step", "epoch", "time"}
        for key, (which, values) in run["curves"].items():
            expected = [(r["step"], r[key]) for r in written if key in r]
            assert run["steps"][which] == [step for step, _ in expected]
            numbers = [records.NON_FINITE.get(v, v) if isinstance(v, str) else v for v in values]
            assert numbers == pytest.approx([v for _, v in expected], rel=1e-5, nan_ok=True)
        assert run["clock"] == [[r["step"] for r in written], [r["time"] for r in written]]
    assert page.data["runs"][0]["epoch_ends"] == [[0, 0], [9, 3]]
    summary = reading.read_summary(Path("all/clr"))
    assert f"{summary['metrics'][records.TEST_ACCURACY]:.4g}" in page.text
    assert {"completed", "diverged", "optim.name"} <= set(page.text)
    assert "nan" in page.data["runs"][1]["curves"]["train/loss"][1]


def test_only_keys_that_differ_are_columns_and_data(tmp_path: Path) -> None:
    write_run(tmp_path / "a", losses(1.0), {"seed": 0, "optim": {"name": "clr", "_target_": "x.CLR"}, "out_dir": "a"})
    write_run(tmp_path / "b", losses(1.0), {"seed": 0, "optim": {"name": "sgd", "_target_": "x.SGD"}, "out_dir": "b"})
    page = page_of(tmp_path)
    assert [run["config"] for run in page.data["runs"]] == [
        {"optim.name": "clr", "optim._target_": "x.CLR"},
        {"optim.name": "sgd", "optim._target_": "x.SGD"},
    ]
    assert "optim.name" in page.text
    assert not {"seed", "out_dir", "optim._target_"} & set(page.text)


def test_broken_empty_and_torn_runs_are_shown_as_such(tmp_path: Path) -> None:
    write_run(tmp_path / "1-whole", losses(2.0, 1.0), status="completed")
    torn = write_run(tmp_path / "2-torn", losses(2.0, 1.0))
    with open(torn / "records.jsonl", "a") as file:
        file.write('{"step": 2, "ep')
    garbled = write_run(tmp_path / "3-garbled", losses(2.0, 1.0, 0.5))
    lines = (garbled / "records.jsonl").read_text().splitlines()
    (garbled / "records.jsonl").write_text("\n".join([lines[0], "[1]", lines[2]]) + "\n")
    for name, file, text in (
        ("4-config", "config.yaml", "a: ["),
        ("5-config", "config.yaml", "just text"),
        ("6-summary", "summary.json", '{"status'),
        ("7-summary", "summary.json", "[]"),
        ("8-bytes", "records.jsonl", "\udcff\n"),
    ):
        (write_run(tmp_path / name, losses(2.0)) / file).write_bytes(text.encode("utf-8", "surrogateescape"))
    write_run(tmp_path / "9-empty", [])
    (tmp_path / "10-frozen").mkdir()
    (tmp_path / "10-frozen/config.yaml").write_text("seed: 1\nresume: {override: false}\n")
    write_run(tmp_path / "11-failed", losses(2.0), status="failed", error="out of memory")

    runs = {run.path: run for run in write(tmp_path, tmp_path / "report.html")}
    assert list(runs)[-1] == "11-failed"  # numbers are sorted as such
    assert {path: (run.status, run.remarks) for path, run in runs.items()} == {
        "1-whole": ("completed", []),
        "2-torn": ("unfinished", ["the last line of records.jsonl is torn"]),
        "3-garbled": ("unreadable", ["records.jsonl cannot be read beyond line 1"]),
        "4-config": ("unreadable", ["config.yaml cannot be read: line 2 is no YAML"]),
        "5-config": ("unreadable", ["config.yaml cannot be read: it holds no object"]),
        "6-summary": (
            "unreadable",
            ["summary.json cannot be read: Unterminated string starting at: line 1 column 2 (char 1)"],
        ),
        "7-summary": ("unreadable", ["summary.json cannot be read: it holds no object"]),
        "8-bytes": ("unreadable", ["records.jsonl cannot be read beyond line 0", "no record yet"]),
        "9-empty": ("not started", ["no record yet"]),
        "10-frozen": ("not started", ["no record yet"]),
        "11-failed": ("failed", ["out of memory"]),
    }
    assert runs["2-torn"].curves["train/loss"] == [(0, 2.0), (1, 1.0)]
    assert runs["3-garbled"].curves["train/loss"] == [(0, 2.0)]


def test_no_text_of_a_run_becomes_markup(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'"
    write_run(tmp_path / "plain", losses(1.0))
    plain = page_of(tmp_path).tags
    shutil.rmtree(tmp_path / "plain")
    config = {"name": evil, evil: 1}
    line = {"step": 0, "epoch": 0, "time": 0.0, "train/loss": 1.0, evil: 2.0}
    folder = write_run(tmp_path / "<script>alert(3)<&script>\"'", [line], config, status=evil, error=evil)
    page = page_of(tmp_path)
    assert evil in page.data["runs"][0]["curves"]
    assert page.data["runs"][0]["path"] == folder.name
    assert evil in page.text  # whole, as text
    assert {"img"} & set(page.tags) == set()
    assert page.tags.count("script") == plain.count("script") == 2


def test_a_secret_is_nowhere_on_the_page(tmp_path: Path) -> None:
    """Not even where a config.yaml that something else wrote has one."""
    config = {"logger": {"wandb": {"api_key": "hunter2"}}, "dataset": {"root": "https://me:hunter2@host/x"}}
    write_run(tmp_path / "a", losses(1.0), config, status="failed", error="no https://me:hunter2@host/x")
    write_run(tmp_path / "b", losses(1.0))
    assert "no https://<redacted>@host/x" in page_of(tmp_path).text
    assert "hunter2" not in (tmp_path / "report.html").read_text()


def test_thinning_keeps_ends_spikes_and_gaps() -> None:
    curve = Curve()
    special = {4321: 99.0, 7000: -5.0, 8000: math.inf, 9000: None}
    for step in range(10_000):
        curve.append(step, special.get(step, 1.0 + step / 1e6))
    thinned = curve.points(100, digits=7)
    assert len(thinned) <= 100
    assert thinned == sorted(thinned, key=lambda point: point[0])
    assert {(0, 1.0), (9999, 1.009999), *special.items()} <= set(thinned)
    assert len(curve.points(10_000, digits=7)) == 10_000


def test_a_curve_without_a_number_is_thinned_too() -> None:
    curve = Curve()
    for step in range(1000):
        curve.append(step, None if step % 2 else math.nan)
    assert len(curve.points(100, digits=6)) <= 100


def test_three_hundred_long_runs_stay_small_and_say_that_they_are_thinned(tmp_path: Path) -> None:
    long = [
        {"step": k, "epoch": 0, "time": k / 7, **{f"train/{i}": math.sin(k * i) / 3 for i in range(4)}}
        for k in range(400)
    ]
    first = write_run(tmp_path / "0", long)
    for number in range(1, 300):
        shutil.copytree(first, tmp_path / str(number))
    page = page_of(tmp_path)
    curves = [curve for run in page.data["runs"] for curve in run["curves"].values()]
    assert max(len(values) for _, values in curves) <= 100
    assert "more than 100 points are thinned" in "".join(page.text)
    assert (tmp_path / "report.html").stat().st_size < 4_000_000


def test_figures_and_claims_lie_beside_the_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "run", losses(1.0))
    assert "Figures" not in page_of(tmp_path).text
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/fig10.png").write_bytes(b"ten")
    (tmp_path / "figures/fig2.png").write_bytes(b"two")
    (tmp_path / "figures/fig10.txt").write_bytes(b"no \xff text")
    (tmp_path / "figures/alone.png").write_bytes(b"alone")
    (tmp_path / "figures/fig3.png").mkdir()
    (tmp_path / "figures/map.png").write_bytes(b"map")
    (tmp_path / "figures/map.txt").write_text("When does CLR work?")
    (tmp_path / "figures/fig2.txt").write_text("Loss <b> of & three seeds")
    values = {"30": 0.12345, "31": 2, "32": None}
    claims = [{"figure": "fig2", "statement": "sooner", "statistic": "T/T", "verdict": "undecided", "values": values}]
    (tmp_path / "figures/claims.json").write_text(json.dumps(claims))
    page = page_of(tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert text.index("base64,dHdv") < text.index("base64,dGVu")
    assert "Loss <b> of & three seeds " in page.text
    assert "base64,bWFw" in text
    assert "base64,YWxvbmU=" not in text
    assert {"fig2", "sooner", "undecided", "30: 0.1235; 31: 2; 32: –"} <= set(page.text)
    for broken in ("[1]", "{", '{"a": 1}'):
        (tmp_path / "figures/claims.json").write_text(broken)
        assert "Claims" not in page_of(tmp_path).text


def test_figures_of_other_runs_are_not_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "mine/run", losses(1.0))
    (tmp_path / "outputs/figures").mkdir(parents=True)
    (tmp_path / "outputs/figures/fig2.png").write_bytes(b"two")
    (tmp_path / "outputs/figures/claims.json").write_text('[{"figure": "fig2"}]')
    assert not {"Figures", "Claims"} & set(page_of(Path("mine")).text)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nowhere"], "nowhere is no folder"),
        (["empty"], "empty holds no run: train one with corridor-train"),
        (["runs", "--out", "no/such/place.html"], "choose another place with --out"),
        (["runs", "--owt", "x"], "did you mean '--out'?"),
    ],
)
def test_bad_usage_is_one_line(argv: list[str], said: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "runs/a", losses(1.0))
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_folders_inside_a_run_are_no_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "run", losses(1.0))
    for inner in ("wandb/offline-run-1/files", "checkpoints/x", ".hydra"):
        (tmp_path / "run" / inner).mkdir(parents=True)
        (tmp_path / "run" / inner / "config.yaml").write_text("a: 1")
    assert layout.find(tmp_path) == [tmp_path / "run"]
    assert write(tmp_path / "run", tmp_path / "one.html")[0].path == "run"
