"""Pipes, devices and YAML that no reader could finish are refused by name. No command waits for them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from PIL import Image

from corridor_exp.cli import atlas, figures, report, sync
from corridor_exp.config.compose import compose_jobs
from corridor_exp.datasets.sources import Folder, Parquet, Tar
from corridor_exp.datasets.table import _read
from corridor_exp.errors import RunError, UsageError
from corridor_exp.runs import checkpoint
from corridor_exp.sweeps.frozen import Sweep, thaw
from corridor_exp.yaml_files import LARGEST, load_yaml, refuse_bombs

pytestmark = pytest.mark.timeout(60)  # a fault here would wait forever
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(12)
)
BAD = {
    "bomb": BOMB,
    "endless": "a: &a [*a]\n",
    "deep": "a: " + "[" * 20_000 + "]" * 20_000,
    "large": "a: " + "x" * LARGEST,
    "list": "- 1\n",
    "nothing": "",
    "cut": "a: [",
    "date": "a: 2026-99-99\n",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_configuration_that_cannot_be_read_is_one_line_that_names_it(tmp_path: Path, kind: str) -> None:
    (tmp_path / "config.yaml").write_text(BAD[kind])
    with pytest.raises(UsageError, match=rf"\A{tmp_path}/config\.yaml .*\Z"):
        load_yaml(tmp_path / "config.yaml")


def test_aliases_of_a_reasonable_size_are_yaml() -> None:
    Path("a.yaml").write_text("a: &a {x: 1}\nb: [*a, *a]\nc: &c 3\nd: *c\n")
    assert load_yaml(Path("a.yaml")) == {"a": {"x": 1}, "b": [{"x": 1}] * 2, "c": 3, "d": 3}
    refuse_bombs(Path())


@pytest.mark.parametrize("make", [lambda file: file.write_text(BOMB), os.mkfifo], ids=["bomb", "pipe"])
def test_a_folder_of_options_is_looked_at_before_hydra_reads_it(corridor_train, capsys, make: Callable) -> None:
    Path("conf/optim").mkdir(parents=True)
    make(Path("conf/optim/mine.yaml"))
    assert corridor_train("optim=mine", "--config-dir", "conf") == 2
    assert "conf/optim/mine.yaml is " in capsys.readouterr().err
    with pytest.raises(UsageError):
        compose_jobs([], False, "conf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "runs" / "0"
    place.mkdir(parents=True)
    (config,) = compose_jobs(["dataset=digits", "model=mlp", "logger=jsonl"], False)
    (place / "config.yaml").write_text(yaml.safe_dump(config.public()))
    (place / "records.jsonl").write_text('{"step": 0, "epoch": 0, "time": 1.0, "train/loss": 1.0}\n')
    manifest = {"command": ["a=1"], "runs": ["0"], "time": "2026", "git_commit": None}
    (tmp_path / "runs" / "sweep.json").write_text(json.dumps(manifest))
    return place


READERS = {
    "atlas": lambda run: atlas.main([str(run)]),
    "figures": lambda run: figures.main(["stability", "--runs", str(run.parent)]),
    "report": lambda run: report.main([str(run.parent)]),
    "sync": lambda run: sync.main([str(run)]),
    "thaw": thaw,
    "open": lambda run: Sweep.open(run.parent),
}


HARMFUL = [("bomb", "config.yaml")] + [
    ("pipe", name) for name in ("config.yaml", "records.jsonl", "summary.json", "../sweep.json")
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("kind", "name"), HARMFUL)
def test_no_reader_of_run_folders_waits_for_a_pipe_or_swallows_a_bomb(
    folder: Path, monkeypatch, reader: str, kind: str, name: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setattr("corridor_exp.loggers.wandb.upload", lambda *_: 0)
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).write_text(BOMB)
    with suppress(SystemExit, UsageError, RunError):
        READERS[reader](folder)  # returns


def test_a_pipe_as_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "train" / "a" / "0.png")
    for name in ("train/a/1.png", "x.parquet", "x.tar", "x.svm"):
        os.mkfifo(tmp_path / name)
    tree = Folder(tmp_path / "train")
    assert tree.read(0)
    with pytest.raises(OSError, match="regular file"):
        tree.read(1)
    for read in (
        lambda: Parquet([tmp_path / "x.parquet"]),
        lambda: Tar([tmp_path / "x.tar"]),
        lambda: _read(str(tmp_path / "x.svm")),
    ):
        with pytest.raises(RunError, match="regular file"):
            read()


def test_a_pipe_as_a_checkpoint_is_named(tmp_path: Path, digits_run, capsys) -> None:
    (tmp_path / "parent" / "checkpoints").mkdir(parents=True)
    os.mkfifo(tmp_path / "parent" / "checkpoints" / f"step_000000003.{'0' * 16}.pt")
    assert checkpoint.load_newest(tmp_path / "parent" / "checkpoints") is None
    assert digits_run("fork_from=parent", "max_steps=1", "out_dir=out") == 2
    assert "is not a regular file" in capsys.readouterr().err


def test_a_device_is_no_file_either(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="is not a regular file"):
        load_yaml(tmp_path / "config.yaml")
