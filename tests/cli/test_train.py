"""`corridor-train`, as a user types it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from corridor_exp.runs import records
from tests.conftest import until, without_time

COMMAND = [sys.executable, "-m", "corridor_exp.cli.train"]
Run = Callable[..., int]


def files(directory: Path) -> set[str]:
    return {str(f.relative_to(directory)) for f in directory.rglob("*") if f.is_file()}


def test_a_run_directory_has_what_the_contract_says(digits_run: Run, tmp_path) -> None:
    assert digits_run("epochs=2", "out_dir=out", "probe.every=5", "log_every=4") == 0
    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert {"versions", "git_commit", "device", "metrics"} <= summary.keys()
    assert summary["step"] == 6
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["optim"]["name"] == "clr"
    written = list(records.read_records(out))
    assert [r["step"] for r in written] == [0, 2, 4, 5]
    assert written[0].keys() >= {"step", "epoch", "time", "train/loss", "train/lr", "train/grad_norm", "train/accuracy"}
    assert {"probe/hg_norm", "probe/corridor_index", "probe/hg_ratio", "probe/gradient_curvature"} <= written[0].keys()
    assert {"train/epoch_loss", "test/loss", "test/accuracy"} <= written[1].keys()
    assert {f.split("/")[0] for f in files(tmp_path)} == {"out"}
    assert {f.split("/")[0] for f in files(out)} == {
        ".lock",
        ".steps",
        "config.yaml",
        "records.jsonl",
        "summary.json",
        "checkpoints",
    }


def test_under_clr_the_recorded_step_is_loss_over_squared_gradient_norm(digits_run: Run, tmp_path) -> None:
    digits_run("epochs=2", "out_dir=out", "log_every=1")
    for r in records.read_records(tmp_path / "out"):
        assert r["train/lr"] == pytest.approx(r["train/loss"] / r["train/grad_norm"] ** 2, rel=1e-4)


def test_without_out_dir_a_run_has_a_folder_of_its_own_and_finds_it_again(digits_run: Run, capsys) -> None:
    assert digits_run("max_steps=1") == 0
    assert digits_run("max_steps=1", "seed=1") == 0
    first, second = sorted(Path("outputs/digits-mlp").iterdir())
    assert first.name.startswith("clr-seed0-")
    assert second.name.startswith("clr-seed1-")
    capsys.readouterr()
    assert digits_run("max_steps=1") == 0
    assert f"completed before; see {first.absolute()}/summary.json" in capsys.readouterr().err


def test_row_22_another_configuration_is_refused_before_torch_and_allowed_on_request(
    digits_run: Run, capsys, tmp_path
) -> None:
    assert digits_run("epochs=1", "out_dir=out") == 0
    assert digits_run("epochs=2", "out_dir=out") == 2
    assert "epochs: 1 → 2" in capsys.readouterr().err
    assert digits_run("epochs=2", "out_dir=out", "resume.override=true") == 0
    epochs = [r["epoch"] for r in records.read_records(tmp_path / "out") if "train/epoch_loss" in r]
    assert epochs == [0, 1]


def test_row_22_a_run_that_ended_is_not_relabelled(digits_run: Run, capsys, tmp_path) -> None:
    assert digits_run("epochs=1", "out_dir=out") == 0
    before = {file: file.read_bytes() for file in (tmp_path / "out").glob("*.*")}
    assert digits_run("epochs=1", "seed=7", "out_dir=out", "resume.override=true") == 2
    assert "nothing is left to train with another seed" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in before} == before
    (tmp_path / "out/records.jsonl").unlink()
    assert digits_run("epochs=1", "seed=7", "out_dir=out") == 2
    assert "seed: 0 → 7" in capsys.readouterr().err


@pytest.mark.parametrize("length", ["epochs=1", "max_steps=3"])
def test_row_22_a_run_is_not_made_shorter_than_it_is(digits_run: Run, capsys, tmp_path, length: str) -> None:
    assert digits_run("epochs=2", "out_dir=out") == 0
    before = {file: file.read_bytes() for file in (tmp_path / "out").glob("*.*")}
    assert digits_run(length, "out_dir=out", "resume.override=true") == 2
    assert "steps are done, and epochs and max_steps allow" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize("what", ["torch", "device", "world_size"])
def test_row_22_another_machine_is_refused_unless_overridden(
    digits_run: Run, capsys, monkeypatch, tmp_path, what: str
) -> None:
    import corridor_exp.engine.run

    here = corridor_exp.engine.run.numerics
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(corridor_exp.engine.run, "numerics", lambda engine: {**here(engine), what: "another"})
        assert digits_run("epochs=1", "out_dir=out") == 0
    (tmp_path / "out" / "summary.json").unlink()
    assert digits_run("epochs=1", "out_dir=out") == 2
    assert f"{what}: another → " in capsys.readouterr().err
    assert digits_run("epochs=1", "out_dir=out", "resume.override=true") == 0


def test_row_22_a_precision_that_another_machine_would_choose_is_refused(
    corridor_train: Run, capsys, monkeypatch, tmp_path
) -> None:
    """engine.precision=auto is bf16 for convolutions where the device has units for it, and fp32 elsewhere."""
    from corridor_exp.engine import build
    from corridor_exp.engine.loop import Engine
    from corridor_exp.runs.layout import Status

    argv = ["dataset=digits", "dataset.train_size=40", "model=resnet18", "model.width=2", "logger=jsonl", "probe=none"]
    argv += ["batch_size=20", "epochs=2", "out_dir=out"]
    monkeypatch.setattr(build, "computes_bf16", lambda device: True)
    with monkeypatch.context() as stopped:
        stopped.setattr(Engine, "_end_epoch", lambda engine, bar: Status.PREEMPTED)
        assert corridor_train(*argv) == 75
    monkeypatch.setattr(build, "computes_bf16", lambda device: False)
    assert corridor_train(*argv) == 2
    assert "precision: bfloat16 → float32" in capsys.readouterr().err
    assert corridor_train(*argv, "resume.override=true") == 0
    assert json.loads((tmp_path / "out/summary.json").read_text())["precision"] == "float32"


def test_a_checkpoint_of_an_older_version_that_does_not_name_its_precision_goes_on(
    digits_run: Run, monkeypatch, tmp_path
) -> None:
    import corridor_exp.engine.run

    here = corridor_exp.engine.run.numerics
    with monkeypatch.context() as older:
        older.setattr(corridor_exp.engine.run, "numerics", lambda engine: {"torch": here(engine)["torch"]})
        assert digits_run("epochs=1", "out_dir=out") == 0
    (tmp_path / "out" / "summary.json").unlink()
    assert digits_run("epochs=1", "out_dir=out") == 0


def test_row_22_another_number_of_threads_is_refused(digits_run: Run, capsys, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert digits_run("epochs=1", "out_dir=out") == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert digits_run("epochs=1", "out_dir=out") == 2
    assert "engine.threads: 2 → 1" in capsys.readouterr().err


def test_row_7_a_diverged_run_exits_1_keeps_its_verdict_and_writes_no_bare_nan(digits_run: Run, tmp_path) -> None:
    argv = ("optim=sgd", "optim.lr=1e30", "model.activation=softplus", "out_dir=out", "log_every=1")
    assert digits_run(*argv) == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["status"] == "diverged"
    for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    assert digits_run(*argv) == 1


def test_missing_data_fails_in_one_line_with_the_cures(corridor_train: Run, capsys, tmp_path) -> None:
    argv = ("dataset.root=nowhere", "dataset.download=false", "model.width=8", "logger=jsonl", "out_dir=out")
    assert corridor_train(*argv) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    for word in ("dataset.root", "dataset.download", "dataset=digits"):
        assert word in err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"] == "failed"


def test_an_estimate_without_data_fails_in_one_line(corridor_train: Run, capsys) -> None:
    assert corridor_train("dataset.root=nowhere", "dataset.download=false", "model.width=8", "--estimate") == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("corridor-train: no CIFAR10 under")


def test_a_run_that_failed_before_training_may_be_corrected(corridor_train: Run, tmp_path) -> None:
    common = ("model.width=8", "model.norm=none", "logger=jsonl", "max_steps=1", "out_dir=out")
    assert corridor_train("dataset.root=nowhere", "dataset.download=false", *common) == 1
    assert corridor_train("dataset=digits", "model=vgg11", *common) == 2  # too small for VGG
    assert corridor_train("dataset=digits", "model=vgg11", "dataset.image_size=32", *common) == 0


def test_a_mirror_is_finished_however_the_run_ends(digits_run: Run, monkeypatch) -> None:
    from corridor_exp.engine.loop import Engine
    from corridor_exp.loggers import Wandb

    ended: list[str] = []
    monkeypatch.setattr(Wandb, "start", lambda *_: None)
    monkeypatch.setattr(Wandb, "finish", lambda self, status: ended.append(status))
    monkeypatch.setattr(Engine, "train", lambda self: 1 / 0)
    digits_run("logger=wandb", "out_dir=out")
    assert ended == ["failed"]


def test_an_unexpected_error_is_in_the_summary_and_the_run_can_be_tried_again(
    digits_run: Run, monkeypatch, tmp_path
) -> None:
    from corridor_exp.engine.loop import Engine

    monkeypatch.setattr(Engine, "train", lambda self: 1 / 0)
    assert digits_run("epochs=1", "out_dir=out") == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "ZeroDivisionError" in summary["error"]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert digits_run("epochs=1", "out_dir=out") == 0


def test_row_18_a_secret_reaches_no_file(corridor_train: Run, tmp_path, monkeypatch) -> None:
    argv = ("dataset=digits", "model=linear", "logger.wandb.api_key=hunter2", "max_steps=1")
    assert corridor_train(*argv, "out_dir=one") == 0
    assert corridor_train("-m", *argv, "seed=0,1", "out_dir=many") == 0
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"hunter2" not in file.read_bytes(), file


def test_no_key_is_no_secret(digits_run: Run, tmp_path) -> None:
    assert digits_run("logger=wandb", "logger.wandb.api_key=null", "max_steps=1", "out_dir=out") == 0
    assert yaml.safe_load((tmp_path / "out/config.yaml").read_text())["logger"]["wandb"]["api_key"] is None


# ------------------------------------------------------------------------- signals

LONG = ["dataset=digits", "model=mlp", "model.width=16", "logger=jsonl", "log_every=1", "batch_size=50"]


def started(*argv: str, records_file: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([*COMMAND, *LONG, *argv], stderr=subprocess.PIPE, text=True)
    until(lambda: process.poll() is not None or (records_file.exists() and records_file.stat().st_size > 2000))
    assert process.poll() is None, process.stderr.read()
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_row_4_a_signal_saves_exits_75_and_the_same_command_goes_on(digits_run: Run, tmp_path, number: int) -> None:
    process = started("epochs=90", "out_dir=out", records_file=tmp_path / "out/records.jsonl")
    process.send_signal(number)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "the same command goes on from here" in err
    assert json.loads((tmp_path / "out/summary.json").read_text())["status"] == "preempted"
    first = next(records.read_records(tmp_path / "out"))
    assert subprocess.run([*COMMAND, *LONG, "epochs=90", "out_dir=out"]).returncode == 0
    assert next(records.read_records(tmp_path / "out")) == first  # its time too: the run was not begun anew
    assert digits_run(*LONG, "epochs=90", "out_dir=whole") == 0
    assert without_time(tmp_path / "out") == without_time(tmp_path / "whole")


def test_row_19_a_second_start_is_locked_out_and_a_signal_ends_a_sweep(digits_run: Run, capsys, tmp_path) -> None:
    process = started("-m", "seed=0,1", "epochs=10000", "out_dir=out", records_file=tmp_path / "out/0/records.jsonl")
    assert digits_run(*LONG, "seed=0", "epochs=10000", "out_dir=out/0") == 2
    assert "in use by another process" in capsys.readouterr().err
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert {f.name for f in (tmp_path / "out/1").iterdir()} == {"config.yaml"}  # frozen, and never begun


def test_a_killed_run_goes_on_from_its_last_checkpoint(digits_run: Run, tmp_path) -> None:
    argv = ("epochs=90", "checkpoint.every=7")
    process = started(*argv, "out_dir=out", records_file=tmp_path / "out/records.jsonl")
    until(lambda: list((tmp_path / "out/checkpoints").glob("*.pt")))
    process.kill()
    process.wait()
    first = next(records.read_records(tmp_path / "out"))
    assert digits_run(*LONG, *argv, "out_dir=out") == 0
    assert next(records.read_records(tmp_path / "out")) == first
    assert digits_run(*LONG, *argv, "out_dir=whole") == 0
    assert without_time(tmp_path / "out") == without_time(tmp_path / "whole")
