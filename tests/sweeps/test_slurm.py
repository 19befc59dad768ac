"""On a real one-node Slurm: submission, requeue, crash, cancel. Two cores, a partition `high` that preempts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corridor_exp import records

CLUSTER = Path(__file__).parents[3] / "shared" / "slurm" / "slurm-cluster.sh"
TEMPLATE = Path(__file__).parents[2] / "scripts" / "train.sbatch"
DIGITS = ["dataset=digits", "model=mlp", "model.width=16", "logger=jsonl", "probe=none"]
# Long enough to be caught in the middle; it saves only when it is told to, so what it resumes from is that save.
LONG = [*DIGITS, "batch_size=50", "log_every=20", "checkpoint.every=1000000", "epochs=700"]
Run = Callable[..., int]

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The environment variables by which commands find the cluster."""
    if not CLUSTER.is_file():
        pytest.skip(f"{CLUSTER} is missing")
    if os.geteuid() != 0:
        pytest.skip("starting a Slurm needs root")
    if not (shutil.which("slurmctld") or shutil.which("apt-get")):
        pytest.skip("there is no Slurm here, and no apt-get to install it")
    with tempfile.TemporaryDirectory(prefix="slurm-") as root:  # short: munge's socket lies in it
        environment = {**os.environ, "SLURM_TEST_ROOT": root, "SLURM_TEST_PORT": "27817"}
        begun = subprocess.run([CLUSTER, "start"], env=environment, capture_output=True, text=True)
        if begun.returncode:
            pytest.skip(f"Slurm does not start here: {begun.stderr.splitlines()[-1:]}")
        yield {"SLURM_CONF": f"{root}/slurm.conf", "PATH": f"{root}/bin:{os.environ['PATH']}"}
        subprocess.run([CLUSTER, "stop"], env=environment)


@pytest.fixture(autouse=True)
def _in_the_cluster(cluster: dict[str, str], monkeypatch, tmp_path) -> Iterator[None]:
    commands = tmp_path / "bin"  # corridor-train as the template finds it, of this checkout
    commands.mkdir()
    (commands / "corridor-train").write_text(f'#!/bin/sh\nexec {sys.executable} -m corridor_exp.cli.train "$@"\n')
    (commands / "corridor-train").chmod(0o755)
    monkeypatch.setenv("SLURM_CONF", cluster["SLURM_CONF"])
    monkeypatch.setenv("PATH", f"{commands}:{cluster['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(TEMPLATE.parents[1]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    subprocess.run(["scancel", "--user=root"])
    until(lambda: not queue())


def until(happened: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def queue() -> str:
    return subprocess.run(["squeue", "--noheader", "--format=%i %T"], capture_output=True, text=True).stdout


def is_training(folder: Path) -> bool:
    file = folder / "records.jsonl"
    return file.exists() and file.stat().st_size > 2000


def status(folder: Path) -> object:
    return (records.read_summary(folder) or {}).get("status")


def without_time(folder: Path) -> list[records.Record]:
    return [{k: v for k, v in r.items() if k != "time"} for r in records.read_records(folder)]


def states(corridor_sweep: Run, capsys, folder: str) -> list[str]:
    capsys.readouterr()
    assert corridor_sweep(f"out_dir={folder}", "--status") == 0
    *rows, _, _ = capsys.readouterr().out.splitlines()
    column = rows[0].split().index("state")
    return [row.split()[column] for row in rows[1:]]


def test_an_array_is_submitted_and_left_alone_and_row_23_an_edited_yaml_has_no_effect(
    corridor_sweep: Run, capsys, tmp_path
) -> None:
    option = tmp_path / "conf/optim/mine.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("name: mine\n_target_: torch.optim.SGD\nlr: 0.1\n")
    argv = [*DIGITS, "max_steps=5", "seed=0,1,2", "optim=mine", "--config-dir", "conf", "out_dir=out"]
    begun = time.monotonic()
    assert (
        corridor_sweep(*argv, "executor=slurm", "slurm.parallel=1", "logger=wandb", "logger.wandb.api_key=hunter2") == 0
    )
    assert time.monotonic() - begun < 15
    option.write_text("name: mine\n_target_: torch.optim.SGD\nlr: 0.7\n")
    err = capsys.readouterr().err
    assert "3 runs submitted as Slurm job" in err
    assert "--status" in err
    assert "--cancel" in err
    assert len(queue().splitlines()) <= 2  # one array: a task that runs, the others in one line
    assert set(states(corridor_sweep, capsys, "out")) <= {"running", "waiting"}
    assert corridor_sweep("out_dir=out", "executor=slurm") == 0
    assert "3 runs are in Slurm's queue already" in capsys.readouterr().err
    until(lambda: not queue())
    assert states(corridor_sweep, capsys, "out") == ["completed"] * 3
    for run in range(3):
        assert {r["train/lr"] for r in records.read_records(tmp_path / f"out/{run}")} == {0.1}
        assert "completed at step 5" in (tmp_path / f"out/{run}/log.txt").read_text()
    assert not any(b"hunter2" in f.read_bytes() for f in (tmp_path / "out").rglob("*") if f.is_file())


def test_preempted_runs_save_and_queue_again_and_end_with_the_same_bits(corridor_sweep: Run, tmp_path) -> None:
    argv = [*LONG, "seed=0,1"]
    assert corridor_sweep(*argv, "executor=slurm", "slurm.time=60", "out_dir=out") == 0
    until(lambda: is_training(tmp_path / "out/0") and is_training(tmp_path / "out/1"))
    subprocess.run(["sbatch", "--partition=high", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 1"], check=True)
    until(lambda: status(tmp_path / "out/0") == status(tmp_path / "out/1") == "completed")
    for run in (0, 1):
        log = (tmp_path / f"out/{run}/log.txt").read_text()
        assert "SIGUSR2: finishing this step, then saving" in log
        assert "going on at step" in log
    assert corridor_sweep(*argv, "processes=2", "out_dir=whole") == 0
    for run in (0, 1):
        assert without_time(tmp_path / f"out/{run}") == without_time(tmp_path / f"whole/{run}")


def test_a_run_that_reaches_its_time_limit_goes_on_to_the_same_bits(corridor_sweep: Run, tmp_path) -> None:
    argv = [*LONG, "epochs=1500"]
    assert corridor_sweep(*argv, "executor=slurm", "slurm.time=1", "slurm.grace=40", "out_dir=out") == 0
    assert corridor_sweep(*argv, "out_dir=whole") == 0  # meanwhile
    until(lambda: status(tmp_path / "out/0") == "completed")
    assert "going on at step" in (tmp_path / "out/0/log.txt").read_text()
    assert without_time(tmp_path / "out/0") == without_time(tmp_path / "whole/0")


def test_row_21_a_crashed_task_is_reported_and_only_it_runs_again(corridor_sweep: Run, capsys, tmp_path) -> None:
    crashing = ["model._target_=tests.sweeps.crashing.network", "allow_targets=[tests.sweeps.]"]
    argv = [*DIGITS, *crashing, "max_steps=3", "seed=2,3", "executor=slurm", "out_dir=out"]
    Path("crash").touch()
    assert corridor_sweep(*argv) == 0
    until(lambda: not queue())
    assert states(corridor_sweep, capsys, "out") == ["completed", "failed"]
    Path("crash").unlink()
    assert corridor_sweep(*argv, "--retry-failed") == 0
    assert "1 runs submitted" in capsys.readouterr().err
    until(lambda: not queue())
    assert states(corridor_sweep, capsys, "out") == ["completed", "completed"]


def test_cancelled_runs_save_and_do_not_come_back_before_they_are_asked_to(
    corridor_sweep: Run, capsys, tmp_path
) -> None:
    argv = [*LONG, "epochs=100000", "seed=0,1,2", "executor=slurm", "out_dir=out"]
    assert corridor_sweep(*argv) == 0
    until(lambda: is_training(tmp_path / "out/0") and is_training(tmp_path / "out/1"))
    assert corridor_sweep("out_dir=out", "--cancel") == 0
    until(lambda: not queue())
    assert states(corridor_sweep, capsys, "out") == ["preempted", "preempted", "waiting"]
    assert list((tmp_path / "out/0/checkpoints").iterdir())


def test_a_refused_submission_is_one_line(corridor_sweep: Run, capsys) -> None:
    assert corridor_sweep(*DIGITS, "seed=0,1", "executor=slurm", "slurm.partition=moon", "out_dir=out") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "invalid partition" in err


def test_the_template_for_sbatch_requeues_itself_and_stays_cancelled(digits_run: Run, tmp_path) -> None:
    shorter = [*LONG, "epochs=1500", "engine.threads=1"]
    limit = ["--time=1", "--signal=USR1@40", "--cpus-per-task=1"]
    subprocess.run(["sbatch", *limit, TEMPLATE, *shorter, "out_dir=out"], check=True)
    longer = [*LONG, "epochs=100000", "engine.threads=1", "out_dir=cancelled"]
    subprocess.run(["sbatch", "--job-name=doomed", *limit, TEMPLATE, *longer], check=True)
    until(lambda: is_training(tmp_path / "cancelled"))
    subprocess.run(["scancel", "--name=doomed"], check=True)
    until(lambda: status(tmp_path / "cancelled") == "preempted")
    assert digits_run(*shorter, "out_dir=whole") == 0
    until(lambda: status(tmp_path / "out") == "completed")
    assert without_time(tmp_path / "out") == without_time(tmp_path / "whole")
    logs = [file.read_text() for file in sorted(tmp_path.glob("slurm-*.out"))]
    assert "going on at step" in logs[0]
    assert "going on at step" not in logs[1]


def test_hydras_own_launchers_run_a_multirun(digits_run: Run, tmp_path) -> None:
    argv = ["-m", "max_steps=3", "seed=0,1", "engine.threads=1"]
    for launcher in ("slurm", "processes"):
        assert digits_run(*argv, f"hydra/launcher={launcher}", f"out_dir={launcher}") == 0
    for run in (0, 1):
        assert without_time(tmp_path / f"slurm/{run}") == without_time(tmp_path / f"processes/{run}")
