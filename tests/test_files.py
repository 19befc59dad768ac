"""What is no file, or one that no reader could finish: refused by name, and waited for by nobody."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from corridor_exp import checkpoint
from corridor_exp.cli.compose import compose_jobs
from corridor_exp.errors import UsageError
from corridor_exp.files import LARGEST, load_yaml, refuse_bombs

pytestmark = pytest.mark.timeout(60)  # what is wrong here waits for ever
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


def test_a_pipe_as_a_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    os.mkfifo(tmp_path / "checkpoints" / f"step_000000003.{'0' * 16}.pt")
    told: list[str] = []
    assert checkpoint.load_newest(tmp_path / "checkpoints", told.append) is None
    assert "is no regular file" in told[0]


def test_a_device_is_no_file_either(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="is no regular file"):
        load_yaml(tmp_path / "config.yaml")
