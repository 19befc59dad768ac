"""Damaged run folders: every command that reads runs names the broken one, goes on, and still shows the good one."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from corridor_exp.cli import atlas, figures, report, sweep, sync
from corridor_exp.config.compose import compose_jobs
from corridor_exp.engine.run import run
from corridor_exp.loggers import wandb
from corridor_exp.runs import layout, reading
from tests.conftest import SMALL, exit_code

CONFIG, SUMMARY, RECORDS = layout.CONFIG_FILE, layout.SUMMARY_FILE, layout.RECORDS_FILE
Damage = Callable[[Path], object]


def holding(content: str | bytes) -> Damage:
    data = content.encode() if isinstance(content, str) else content
    return lambda file: file.write_bytes(data)


def instead(make: Damage) -> Damage:
    """Something else in place of the file."""

    def damage(file: Path) -> None:
        file.unlink()
        make(file)

    return damage


def with_line(text: str | bytes, number: int = 2) -> Damage:
    """Another line in place of one of the records."""
    data = text.encode() if isinstance(text, str) else text

    def damage(file: Path) -> None:
        lines = file.read_bytes().splitlines()
        lines[number] = data
        file.write_bytes(b"\n".join(lines) + b"\n")

    return damage


def with_value(key: str, value: object) -> Damage:
    """One value of a record changed; without a value, the key left out."""

    def damage(file: Path) -> None:
        lines = file.read_text().splitlines()
        record = {**json.loads(lines[2]), key: value}
        lines[2] = json.dumps({k: v for k, v in record.items() if v is not ...})
        file.write_text("\n".join(lines) + "\n")

    return damage


def with_keys(**keys: object) -> Damage:
    """Values of the summary changed."""

    def damage(file: Path) -> None:
        summary = {**json.loads(file.read_text()), **keys}
        file.write_text(json.dumps({k: v for k, v in summary.items() if v is not ...}))

    return damage


def with_text(added: str) -> Damage:
    """Lines of YAML after those of the configuration; a later key wins."""
    return lambda file: file.write_text(f"{file.read_text()}\n{added}\n")


DEEP = 100_000
ANY_FILE: dict[str, Damage] = {
    "empty": holding(""),
    "null bytes": holding(bytes(300)),
    "noise": holding(bytes(range(128, 256)) * 9),
    "not UTF-8": holding(b'{"status": "completed", "name": "\xff"}\n'),
    "half": lambda file: os.truncate(file, file.stat().st_size // 2),
    "a list": holding("[1, 2]\n"),
    "a number": holding("7\n"),
    "text": holding('"completed"\n'),
    "nested lists": holding("[" * DEEP + "\n"),
    "nested objects": holding('{"a":' * DEEP + "\n"),
    "a link to itself": instead(lambda file: file.symlink_to(file)),
    "a folder": instead(lambda file: file.mkdir()),
    "a pipe": instead(lambda file: os.mkfifo(file)),
    "a device": instead(lambda file: file.symlink_to("/dev/zero")),
}
OF_RECORDS: dict[str, Damage] = {
    "gone": instead(lambda file: None),
    "shorter than the summary": lambda file: file.write_text("".join(file.open().readlines()[:-1])),
    "a bad line": with_line('{"step": 2, "ep'),
    "an empty line": with_line(""),
    "a line that is a list": with_line("[1]"),
    "a nested line": with_line('{"step":' * DEEP),
    "the first line": with_line("garbage", 0),
    "step inf": with_value("step", "inf"),
    "step nan": with_value("step", "nan"),
    "step text": with_value("step", "two"),
    "step fraction": with_value("step", 2.5),
    "step true": with_value("step", True),
    "step negative": with_value("step", -1),
    "step null": with_value("step", None),
    "no step": with_value("step", ...),
    "no epoch": with_value("epoch", ...),
    "epoch -1": with_value("epoch", -1),
    "no time": with_value("time", ...),
    "time inf": with_value("time", "inf"),
    "time text": with_value("time", "noon"),
    "a text as a metric": with_value("train/loss", "small"),
    "a list as a metric": with_value("train/loss", [1.0]),
    "an object as a metric": with_value("train/loss", {"a": 1}),
    "a huge number": with_line(f'{{"step": 2, "epoch": 0, "time": 1.0, "train/loss": {"9" * 400}}}'),
    "too many digits": with_line(f'{{"step": 2, "epoch": 0, "time": 1.0, "train/loss": {"9" * 5000}}}'),
    "half a character": with_line('{"step": 2, "epoch": 0, "time": 1.0, "train/\\ud800": 1.0}'),
}
OF_SUMMARY: dict[str, Damage] = {
    "no status": with_keys(status=...),
    "status a number": with_keys(status=3),
    "status null": with_keys(status=None),
    "half a character": with_keys(status="\ud800"),
    "step inf": with_keys(step="inf"),
    "step fraction": with_keys(step=1.5),
    "metrics a list": with_keys(metrics=[1]),
    "metrics a text": with_keys(metrics={"train/loss": "small"}),
    "seconds text": with_keys(seconds="long"),
    "versions a list": with_keys(versions=["torch"]),
    "error an object": with_keys(error={"a": 1}),
    "commit a number": with_keys(git_commit=1),
}
OF_CONFIG: dict[str, Damage] = {
    "gone": instead(lambda file: None),
    "no YAML": holding("a: [\n"),
    "a tab": holding("a:\n\tb: 1\n"),
    "an unknown tag": with_text("x: !!python/object/apply:os.getcwd []"),
    "an endless tree": with_text("x: &a [*a]"),
    "a bomb": with_text("\n".join(["a0: &a0 [x]", *(f"a{i + 1}: &a{i + 1} [{9 * f'*a{i},'}]" for i in range(12))])),
    "an impossible date": with_text("x: 2026-99-99"),
    "a list as a key": with_text("? [1, 2]\n: 3"),
    "seed text": with_text("seed: one"),
    "seed a list": with_text("seed: [1]"),
    "epochs text": with_text("epochs: many"),
    "optim text": with_text("optim: clr"),
    "rate text": with_text("optim: {name: sgd, lr: fast}"),
    "name a list": with_text("dataset: {name: [digits]}"),
    "model null": with_text("model: null"),
    "logger a list": with_text("logger: [wandb]"),
}
DAMAGES = [
    *((file, what, damage) for file in (CONFIG, SUMMARY, RECORDS) for what, damage in ANY_FILE.items()),
    *((RECORDS, what, damage) for what, damage in OF_RECORDS.items()),
    *((SUMMARY, what, damage) for what, damage in OF_SUMMARY.items()),
    *((CONFIG, what, damage) for what, damage in OF_CONFIG.items()),
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps with looks."""
    folder = tmp_path_factory.mktemp("good") / "0"
    (config,) = compose_jobs([*SMALL, "max_steps=6", "epochs=2", "log_every=1", "probe.every=2"], multirun=False)
    assert run(config, folder, lambda: False) == "completed"
    shutil.rmtree(folder / layout.CHECKPOINTS)
    return folder


@pytest.fixture
def runs(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep for fig5 of two such runs. What is drawn is not rendered, and nothing is uploaded."""
    folder = tmp_path / "runs"
    for name in "01":
        shutil.copytree(good, folder / name)
    manifest = {"command": ["figure=fig5", "scale=mini"], "runs": ["0", "1"], "time": "2026-01-02", "git_commit": None}
    (folder / layout.MANIFEST).write_text(json.dumps(manifest))
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    monkeypatch.setattr(wandb, "has_key", lambda: True)
    monkeypatch.setattr(wandb, "upload", lambda run, *_: len(run.records))
    return folder


def called(main: Callable[[list[str]], None], *argv: object) -> int:
    return exit_code(main, argv)


def by_sweep(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert called(sweep.main, f"out_dir={folder}", "--status") == 0
    out, err = capsys.readouterr()
    good, bad = out.splitlines()[1:3]
    assert "completed" in good
    assert bad.startswith("1 ")
    assert "lost" in bad
    assert err == ""
    return bad


def by_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert called(report.main, folder) == 0
    out, err = capsys.readouterr()
    assert "2 runs" in out
    page = (folder / "report.html").read_text()
    assert 'data-status="completed"' in page
    assert 'data-status="unreadable"' in page
    return err


def by_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert called(figures.main, "fig5", "--runs", folder, "--out", "drawn") == 0
    rows = csv.DictReader(Path("drawn/fig5.csv").read_text().splitlines())  # one for each run that has records
    assert {row["epoch"] for row in rows} == {"1.0"}
    return capsys.readouterr().err


def by_sync(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert called(sync.main, folder) == 1
    out, err = capsys.readouterr()
    assert out.endswith("0: 6 records uploaded\n")
    assert "runs/1" not in out
    return err.splitlines()[-1]


def by_atlas(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """It takes one run: of a broken one, all that stands before the damage."""
    code = called(atlas.main, folder / "1")
    out, err = capsys.readouterr()
    assert (code, "steps" in out) in ((0, True), (2, False))
    (said,) = [line for line in err.splitlines() if line.startswith("corridor-atlas: ")]
    return said


@pytest.mark.parametrize("command", [by_sweep, by_report, by_figures, by_sync, by_atlas])
@pytest.mark.parametrize(("file", "what", "damage"), DAMAGES, ids=[f"{file}: {what}" for file, what, _ in DAMAGES])
def test_a_damaged_run_is_named_and_hides_no_other(
    runs: Path, capsys, file: str, what: str, damage: Damage, command: Callable[..., str]
) -> None:
    damage(runs / "1" / file)
    said = command(runs, capsys)
    assert said.rstrip().count("\n") == 0
    assert file in said
    assert command is by_sweep or f"{runs.name}/1: " in said or f"{runs.name}/1 is no run directory" in said


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        (SUMMARY, instead(lambda file: None)),  # it has not ended yet
        (RECORDS, lambda file: ((file.parent / SUMMARY).unlink(), os.truncate(file, file.stat().st_size - 9))),
        (CONFIG, with_text("added_later: 1")),
    ],
    ids=["no summary", "a torn line", "another key"],
)
def test_what_a_kill_leaves_behind_is_no_damage(runs: Path, file: str, damage: Damage) -> None:
    damage(runs / "1" / file)
    assert reading.read(runs / "1").faults == []


def test_metrics_of_a_wrong_type_are_named_as_such(runs: Path) -> None:
    OF_SUMMARY["metrics a list"](runs / "1" / SUMMARY)
    assert reading.read(runs / "1").faults == [f"{SUMMARY}: metrics: Input should be a valid dictionary"]


def test_a_damaged_manifest_hides_no_other_sweep(runs: Path, tmp_path: Path, capsys) -> None:
    good, bad = (tmp_path / "outputs" / "fig5-mini" / f"sweep-{number}" for number in range(2))
    shutil.copytree(runs, good)
    shutil.copytree(runs, bad)
    (bad / layout.MANIFEST).write_text('{"runs": 3')
    assert called(figures.main, "fig5") == 0
    out, err = capsys.readouterr()
    assert str(good.relative_to(tmp_path)) in out
    assert err.count("\n") == 1
    assert f"{bad.relative_to(tmp_path)}: sweep.json cannot be read" in err
    for main, argv in ((sweep.main, [f"out_dir={bad}", "--status"]), (figures.main, ["fig5", "--runs", bad])):
        assert called(main, *argv) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_run_of_which_only_the_summary_is_left_is_found_and_named(runs: Path, capsys) -> None:
    for file in (CONFIG, RECORDS):
        (runs / "1" / file).unlink()
    assert called(report.main, runs) == 0
    out, err = capsys.readouterr()
    assert "2 runs" in out
    assert err.endswith("1: no config.yaml\n")


def test_links_that_lead_round_in_a_folder_are_not_followed(runs: Path) -> None:
    (runs / "again").symlink_to(runs)
    (runs / "self").symlink_to(runs / "self")
    assert [path.name for path in layout.find(runs)] == ["0", "1"]
