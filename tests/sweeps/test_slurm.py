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

from corridor_exp.runs import reading, records
from tests.conftest import until, without_time

CLUSTER = Path(__file__).parents[3] / "shared" / "slurm" / "slurm-cluster.sh"
TEMPLATE = Path(__file__).parents[2] / "scripts" / "train.sbatch"
DIGITS = [
    "dataset=digits",
    "model=mlp",
    "model.width=16",
    "logger=jsonl",
    "probe=none",
    "epochs=10000",  # max_steps ends every run
    "allow_targets=[tests.sweeps.]",
]
# A tenth of a second a step. It saves only when it is told to: what it resumes from is that save.
SLOW = [
    *DIGITS,
    "log_every=1",
    "checkpoint.every=1000000",
    "logger=spy",
    "logger.spy.seconds=0.1",
    "--config-dir",
    "conf",
]
WHOLE = [*DIGITS, "log_every=1", "engine.threads=1"]
Run = Callable[..., int]

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(280)]


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
    (tmp_path / "conf/logger").mkdir(parents=True)
    (tmp_path / "conf/logger/spy.yaml").write_text(
        "spy:\n  _target_: tests.sweeps.spy.Spy\n  api_key: null\n  seconds: 0.0\n"
    )
    monkeypatch.setenv("SLURM_CONF", cluster["SLURM_CONF"])
    monkeypatch.setenv("PATH", f"{commands}:{cluster['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(TEMPLATE.parents[1]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    subprocess.run(["scancel", "--user=root"])
    until(lambda: not queue())


def queue() -> str:
    return subprocess.run(["squeue", "--noheader", "--format=%i %T"], capture_output=True, text=True).stdout


def is_training(folder: Path) -> bool:
    file = folder / "records.jsonl"
    return file.exists() and file.stat().st_size > 2000


def status(folder: Path) -> object:
    return reading.read_summary(folder).get("status")


def log(*files: Path) -> str:
    return "".join(file.read_text() for file in files if file.exists())


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
    secret = ["logger=spy", "logger.spy.api_key=hunter2"]
    argv = [*DIGITS, *secret, "max_steps=5", "seed=0,1", "optim=mine", "--config-dir", "conf", "out_dir=out"]
    begun = time.monotonic()
    assert corridor_sweep(*argv, "executor=slurm", "slurm.parallel=1") == 0
    assert time.monotonic() - begun < 15
    option.write_text("name: mine\n_target_: torch.optim.SGD\nlr: 0.7\n")
    err = capsys.readouterr().err
    assert "2 runs submitted as Slurm job" in err
    assert "--status" in err
    assert "--cancel" in err
    assert {line.split("_")[0] for line in queue().splitlines()} == {err.split("Slurm job ")[1].split()[0]}
    assert set(states(corridor_sweep, capsys, "out")) <= {"running", "waiting"}
    assert corridor_sweep("out_dir=out", "executor=slurm") == 0
    assert "2 runs are in Slurm's queue already" in capsys.readouterr().err
    until(lambda: not queue())
    assert states(corridor_sweep, capsys, "out") == ["completed"] * 2
    for run in range(2):
        assert {r["train/lr"] for r in records.read_records(tmp_path / f"out/{run}")} == {0.1}
        assert "the key has 7 letters" in log(tmp_path / f"out/{run}/log.txt")
    assert not any(b"hunter2" in f.read_bytes() for f in (tmp_path / "out").rglob("*") if f.is_file())


def test_preempted_runs_save_and_queue_again_and_end_with_the_same_bits(
    corridor_sweep: Run, digits_run: Run, tmp_path
) -> None:
    assert corridor_sweep(*SLOW, "max_steps=150", "seed=0,1", "executor=slurm", "slurm.time=60", "out_dir=out") == 0
    until(lambda: is_training(tmp_path / "out/0") and is_training(tmp_path / "out/1"))
    subprocess.run(["sbatch", "--partition=high", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 1"], check=True)
    for seed in (0, 1):
        until(lambda: status(tmp_path / f"out/{seed}") == "completed")  # noqa: B023
        said = log(tmp_path / f"out/{seed}/log.txt")
        assert "SIGUSR2: finishing this step, then saving" in said
        assert "going on at step" in said
        assert digits_run(*WHOLE, "max_steps=150", f"seed={seed}", f"out_dir=whole/{seed}") == 0
        assert without_time(tmp_path / f"out/{seed}") == without_time(tmp_path / f"whole/{seed}")


def test_at_its_time_limit_a_run_goes_on_to_the_same_bits_in_an_array_and_by_the_template(
    corridor_sweep: Run, digits_run: Run, tmp_path
) -> None:
    # Slurm looks at limits every half minute: the signal comes 18 to 48 seconds after the start, the end after 60.
    steps = "max_steps=600"
    assert corridor_sweep(*SLOW, steps, "executor=slurm", "slurm.time=1", "slurm.grace=42", "out_dir=out") == 0
    limit = ["--time=1", "--signal=USR1@42", "--cpus-per-task=1"]
    subprocess.run(["sbatch", *limit, TEMPLATE, *SLOW, steps, "out_dir=template"], check=True)
    assert digits_run(*WHOLE, steps, "out_dir=whole") == 0
    until(lambda: status(tmp_path / "out/0") == status(tmp_path / "template") == "completed", seconds=220)
    for said in (log(tmp_path / "out/0/log.txt"), log(*tmp_path.glob("slurm-*.out"))):
        assert "going on at step" in said
    assert without_time(tmp_path / "out/0") == without_time(tmp_path / "whole")
    assert without_time(tmp_path / "template") == without_time(tmp_path / "whole")


def test_two_tasks_of_a_job_are_two_ranks_of_one_run_which_a_signal_requeues(tmp_path) -> None:
    two = ["--ntasks=2", "--cpus-per-task=1", "--job-name=two"]
    argv = [*SLOW, "engine.threads=1", "max_steps=100"]
    subprocess.run(["sbatch", *two, TEMPLATE, *argv, "out_dir=out"], check=True)
    until(lambda: is_training(tmp_path / "out"))
    subprocess.run(["scancel", "--signal=USR1", "--name=two"], check=True)
    until(lambda: status(tmp_path / "out") == "completed", seconds=200)
    assert "going on at step" in log(*tmp_path.glob("slurm-*.out"))
    assert reading.read_summary(tmp_path / "out")["ranks"] == 2
    until(lambda: not queue())
    subprocess.run(["sbatch", *two, TEMPLATE, *argv, "out_dir=whole"], check=True)
    until(lambda: status(tmp_path / "whole") == "completed")
    assert without_time(tmp_path / "out") == without_time(tmp_path / "whole")


def test_row_21_a_crashed_task_is_reported_and_only_it_runs_again(corridor_sweep: Run, capsys, tmp_path) -> None:
    crashing = "model._target_=tests.sweeps.crashing.network"
    argv = [*DIGITS, crashing, "max_steps=3", "seed=2,3", "executor=slurm", "out_dir=out"]
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
    doomed = ["--cpus-per-task=1", "--job-name=doomed"]
    subprocess.run(["sbatch", *doomed, TEMPLATE, *SLOW, "max_steps=10000", "out_dir=template"], check=True)
    assert corridor_sweep(*SLOW, "max_steps=10000", "seed=0,1", "executor=slurm", "out_dir=out") == 0
    until(lambda: is_training(tmp_path / "out/0") and is_training(tmp_path / "template"))
    assert corridor_sweep("out_dir=out", "--cancel") == 0
    subprocess.run(["scancel", "--name=doomed"], check=True)
    until(lambda: not queue())
    assert states(corridor_sweep, capsys, "out") == ["preempted", "waiting"]
    assert status(tmp_path / "template") == "preempted"
    assert list((tmp_path / "out/0/checkpoints").iterdir())


def test_a_refused_submission_is_one_line(corridor_sweep: Run, capsys) -> None:
    assert corridor_sweep(*DIGITS, "seed=0,1", "executor=slurm", "slurm.partition=moon", "out_dir=out") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "invalid partition" in err


def test_a_multirun_is_submitted_as_a_sweep_is(digits_run: Run, corridor_sweep: Run, capsys, tmp_path) -> None:
    argv = ["-m", *DIGITS, "max_steps=3", "seed=0,1", "executor=slurm", "out_dir=out"]
    assert digits_run(*argv) == 0
    assert "2 runs submitted as Slurm job" in capsys.readouterr().err
    until(lambda: not queue())
    assert states(corridor_sweep, capsys, "out") == ["completed", "completed"]
