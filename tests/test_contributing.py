"""CONTRIBUTING.md is true: the paths that it names exist, and the example that it prints runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corridor_exp.runs.records import read_records

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_path_that_it_names_is_there() -> None:
    paths = {path for path in re.findall(r"`([\w.]+/[\w./]*)`", PAGE) if "NAME" not in path}
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).exists() and not (ROOT / "corridor_exp" / path).exists()]
    rooms = {file.parent.name for file in (ROOT / "corridor_exp").glob("*/__init__.py")}
    assert not [room for room in rooms if f"`{room}/`" not in PAGE]


def test_an_optimizer_and_a_probe_are_one_class_and_one_yaml_file_each(tmp_path: Path) -> None:
    (module,) = re.findall(r"^```python\n# mine\.py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (commands,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    Path("mine.py").write_text(module)
    command = tmp_path / "bin" / "corridor-train"  # runs this checkout, even if another one is installed
    command.parent.mkdir()
    run_train = f'exec {sys.executable} -m corridor_exp.cli.train "$@"'
    command.write_text(f"#!/bin/sh\nPYTHONPATH=$PYTHONPATH:{ROOT} {run_train}\n")
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    subprocess.run(["bash", "-e", "-c", commands], env={**os.environ, "PATH": path}, check=True)
    (run,) = tmp_path.glob("outputs/digits-mlp/half_polyak-*")
    first, *others = read_records(run)
    assert first["train/lr"] == pytest.approx(0.5 * first["train/loss"] / first["train/grad_norm"] ** 2)
    assert 0 < first["probe/largest_gradient"] < first["train/grad_norm"]
    assert "probe/hg_norm" in first
    assert others[-1]["test/accuracy"] > 0.8
