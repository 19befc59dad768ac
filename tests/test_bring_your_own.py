"""docs/bring-your-own.md is true: its code and its commands run, from an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corridor_exp.runs.records import read_records

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/bring-your-own.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_runs_from_an_empty_folder(tmp_path: Path) -> None:
    (module,) = re.findall(r"^```python\n# mine\.py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    Path("mine.py").write_text(module)
    commands = "".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    for name in ("train", "sweep"):  # this checkout's, even if another one is installed
        command = tmp_path / "bin" / f"corridor-{name}"
        command.parent.mkdir(exist_ok=True)
        run = f'exec {sys.executable} -m corridor_exp.cli.{name} "$@"'
        command.write_text(f"#!/bin/sh\nPYTHONPATH=$PYTHONPATH:{ROOT} {run}\n")
        command.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-e", "-c", commands], env=env, check=True)
    first, *others = read_records(tmp_path / "run")
    assert first["train/lr"] == pytest.approx(0.6 * first["train/loss"] / first["train/grad_norm"] ** 2)
    assert 0 < first["probe/largest_gradient"] < first["train/grad_norm"]
    assert "probe/hg_norm" in first
    assert others[-1]["test/accuracy"] > 0.8
    assert {record["train/lr"] for record in read_records(tmp_path / "experiment")} == {0.1}
    assert {record["train/lr"] for record in read_records(tmp_path / "sweep/1")} == {0.5}
