"""`executor=slurm` where there is no Slurm, or one that refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corridor_exp.errors import UsageError
from corridor_exp.sweeps import slurm
from corridor_exp.sweeps.frozen import Sweep
from tests.cli.sweeps import (
    SHORT,
    Run,
)


def test_slurm_is_refused_where_there_is_none(corridor_sweep: Run, capsys, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert corridor_sweep("seed=0", "executor=slurm") == 2
    assert "no Slurm here" in capsys.readouterr().err


def slurm_that_says(text: str, monkeypatch, folder: Path) -> None:
    """Commands of Slurm's that fail with these lines on stderr."""
    folder.mkdir()
    for name in ("sbatch", "srun", "scancel"):
        (folder / name).write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{text}\nEND\nexit 1\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "sbatch: error: fetch_config: DNS SRV lookup failed\n"
            "sbatch: error: _establish_config_source: failed to fetch config\n"
            "sbatch: fatal: Could not establish a configuration source",
            "executor=slurm: no Slurm controller answers sbatch (Could not establish a configuration source): ask "
            "`sinfo`, set SLURM_CONF, or leave out executor=slurm, which runs the sweep here",
        ),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            "executor=slurm: no Slurm controller answers sbatch (Batch job submission failed: Unable to contact slurm "
            "controller (connect failure)): ask",
        ),
        (
            "sbatch: error: invalid partition specified: moon\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
            "sbatch: invalid partition specified: moon; Batch job submission failed: Invalid partition name specified: "
            "change slurm.KEY=VALUE (see --help), or ask `sinfo`\n",
        ),
        ("", "sbatch: no reason given: change slurm.KEY=VALUE"),
    ],
)
def test_a_slurm_that_takes_no_job_is_one_line_with_the_cure(
    corridor_sweep: Run, capsys, monkeypatch, tmp_path, text: str, said: str
) -> None:
    slurm_that_says(text, monkeypatch, tmp_path / "bin")
    assert corridor_sweep(*SHORT, "seed=0,1", "executor=slurm", "out_dir=out") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith(f"corridor-sweep: {said}")
    Path("out/slurm/jobs.json").write_text('{"0": "1_0"}')
    with pytest.raises(UsageError, match="scancel"):
        slurm.cancel(Sweep.open(Path("out")), ["0"])


def test_slurm_without_srun_is_refused(corridor_sweep: Run, capsys, monkeypatch, tmp_path) -> None:
    slurm_that_says("", monkeypatch, tmp_path / "bin")
    (tmp_path / "bin/srun").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert corridor_sweep("seed=0", "executor=slurm") == 2
    assert "no srun in PATH" in capsys.readouterr().err
