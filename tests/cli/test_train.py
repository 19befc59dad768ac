"""`corridor-train`, as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from corridor_exp.runs import records

COMMAND = [sys.executable, "-m", "corridor_exp.cli.train"]
Run = Callable[..., int]


def files(directory: Path) -> set[str]:
    return {str(f.relative_to(directory)) for f in directory.rglob("*") if f.is_file()}


def without_time(directory: Path) -> list[records.Record]:
    return [{k: v for k, v in r.items() if k != "time"} for r in records.read_records(directory)]


# -------------------------------------------------------------- help and completion


def test_help_names_groups_keys_and_examples(corridor_train: Run, capsys) -> None:
    assert corridor_train("--help") == 0
    out = capsys.readouterr().out
    for word in ("resnet18", "clr", "cifar10", "corridor-train model=resnet18 optim=clr", "batch_size=full", "75"):
        assert word in out


def test_the_slurm_template_is_found_and_asks_for_what_every_node_has(corridor_train: Run, capsys) -> None:
    assert corridor_train("--sbatch") == 0
    template = Path(capsys.readouterr().out.rstrip("\n"))
    asked = [line.split()[1] for line in template.read_text().splitlines() if line.startswith("#SBATCH")]
    assert "--cpus-per-task=1" in asked
    assert subprocess.run(["bash", "-n", template]).returncode == 0


def test_cfg_job_prints_the_configuration_without_secrets(corridor_train: Run, capsys) -> None:
    assert corridor_train("--cfg", "job", "optim=sgd", "logger.wandb.api_key=hunter2") == 0
    out = capsys.readouterr().out
    assert "hunter2" not in out
    assert yaml.safe_load(out)["optim"]["lr"] == 0.1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("corridor-train optim=sg", ["optim=sgd"]),
        ("corridor-train optim=sgd optim.l", ["optim.lr="]),
        ("corridor-train -m dataset=dig", ["dataset=digits"]),
        ("corridor-train --estimate optim/sch", ["optim/schedule="]),
        ("corridor-train hydra", []),
        ("corridor-train figure", []),
        ("corridor-train -m figure", []),
        ("corridor-train exec", []),
        ("corridor-train -m exec", ["executor="]),
        ("corridor-train --co", ["--config-dir"]),
        ("corridor-train --config-dir /tmp opt", ["optim.", "optim="]),
        ("corridor-sweep figure=fi", [f"figure=fig{number}" for number in range(1, 10)]),
        ("corridor-sweep figure=fig2 scale=", ["scale=full", "scale=mini", "scale=smoke"]),
        ("corridor-sweep processes=2 optim=clr + optim=sgd optim.l", ["optim.lr="]),
        ("corridor-sweep --st", ["--status"]),
        ("corridor-sweep slurm.ti", ["slurm.time="]),
        ("corridor-sweep executor=", ["executor=local", "executor=slurm"]),
        ("corridor-train optim=[ optim=sg", []),
        ("corridor-train --bogus optim=sg", ["optim=sgd"]),
    ],
)
def test_tab_completion_offers_what_the_command_takes(request, capsys, monkeypatch, line, words) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    command = request.getfixturevalue(line.split()[0].replace("-", "_"))
    for shell in ("bash", "zsh", "fish"):
        assert command("-sc", f"query={shell}") == 0
        out, err = capsys.readouterr()
        assert out.split() == words
        assert err == ""


def test_tab_completion_is_installed_for_each_shell(corridor_train: Run, capsys) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert corridor_train("--shell-completion", f"install={shell}") == 0
        assert "-sc query=" in capsys.readouterr().out
        assert corridor_train("--shell-completion", f"uninstall={shell}") == 0


def test_a_tab_in_bash_prints_nothing_into_the_prompt(tmp_path: Path) -> None:
    for name in ("train", "sweep"):
        command = tmp_path / f"corridor-{name}"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m corridor_exp.cli.{name} "$@"\n')
        command.chmod(0o755)
    script = """eval "$(corridor-train -sc install=bash)"
    for COMP_LINE in 'corridor-train --co' 'corridor-sweep figure=exa'; do
        COMP_CWORD=1; $(complete -p "${COMP_LINE%% *}" | sed 's/.*-F \\([a-z_]*\\).*/\\1/'); echo "${COMPREPLY[@]}"
    done"""
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    assert (done.stdout.split("\n"), done.stderr) == (["--config-dir", "figure=example", ""], "")


def test_help_and_mistakes_answer_quickly_since_torch_stays_out() -> None:
    for argv in (["--help"], ["optim=crl"]):
        code = (
            f"import sys; sys.argv[1:] = {argv}; from corridor_exp.cli.train import main\n"
            "try: main()\nexcept SystemExit: print('torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("flags", [[], ["--estimate"]])
def test_what_is_being_done_is_said_before_torch_is_loaded(tmp_path, flags: list[str]) -> None:
    (tmp_path / "torch.py").write_text("import sys; sys.exit('this is torch')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([*COMMAND, *LONG, *flags], env=environment, capture_output=True, text=True)
    assert "loading torch" in done.stderr.split("this is torch")[0]
    assert done.stderr.rstrip().endswith("this is torch")


# --------------------------------------------------------------------------- a run


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


# -------------------------------------------------------------------------- sweeps


def test_a_sweep_runs_into_numbered_folders_and_prints_a_table(digits_run: Run, capsys, tmp_path) -> None:
    assert digits_run("-m", "optim=sgd", "optim.lr=0.01,0.1", "max_steps=2", "out_dir=out") == 0
    assert {f.split("/")[0] for f in files(tmp_path / "out")} == {
        "0",
        "1",
        "sweep.json",
        ".sweep.lock",
        ".sweep.owner",
    }
    out = capsys.readouterr().out
    assert [line.split()[:4] for line in out.splitlines()[:3]] == [
        ["run", "optim.lr", "status", "steps"],
        ["0", "0.01", "completed", "2"],
        ["1", "0.1", "completed", "2"],
    ]


def test_a_diverged_run_does_not_stop_the_sweep(digits_run: Run, capsys, tmp_path) -> None:
    argv = ("-m", "optim=sgd", "optim.lr=0.1,1e30,0.2", "epochs=2", "out_dir=out")
    assert digits_run(*argv) == 1
    statuses = [json.loads((tmp_path / f"out/{i}/summary.json").read_text())["status"] for i in range(3)]
    assert statuses == ["completed", "diverged", "completed"]


def test_a_multirun_is_a_sweep_of_one_grid(corridor_sweep: Run, digits_run: Run, capsys) -> None:
    grid = ["optim=glob(s*d)", "seed=range(2)", "max_steps=1", "processes=2"]
    assert digits_run("-m", *grid) == 0
    (folder,) = Path("outputs/digits-mlp").iterdir()
    assert folder.name.startswith("sweep-")
    capsys.readouterr()
    assert corridor_sweep("dataset=digits", "model=mlp", "model.width=16", "logger=jsonl", *grid) == 0
    assert "to do" not in capsys.readouterr().err  # the same folder, where all is done
    assert len(list(folder.glob("*/summary.json"))) == 2


def test_a_multirun_of_one_value_is_one_run_in_folder_0(digits_run: Run) -> None:
    assert digits_run("-m", "seed=3", "max_steps=1", "out_dir='a folder'") == 0
    assert [f.parent.name for f in Path("a folder").glob("*/summary.json")] == ["0"]


def test_a_command_whose_runs_begin_with_those_of_the_folder_extends_the_sweep(digits_run: Run, capsys) -> None:
    common = ("-m", "max_steps=1", "out_dir=out")
    assert digits_run(*common, "seed=0") == 0
    done = Path("out/0/summary.json").stat().st_mtime_ns
    capsys.readouterr()
    assert digits_run(*common, "seed=0,1", "processes=2") == 0
    assert "1 of 2 runs to do" in capsys.readouterr().err
    assert Path("out/0/summary.json").stat().st_mtime_ns == done
    assert digits_run(*common, "seed=1,0") == 2
    err = capsys.readouterr().err
    assert "holds another sweep" in err
    assert "run 0: seed: 0 → 1" in err
    assert digits_run(*common, "seed=0") == 2
    assert "2 runs, here 1" in capsys.readouterr().err


def test_a_sweep_goes_on_with_other_keys_on_request_and_a_failed_run_may_be_corrected(
    digits_run: Run, corridor_train: Run, capsys
) -> None:
    common = ("-m", "seed=0,1", "out_dir=out")
    assert digits_run(*common, "epochs=1") == 0
    assert digits_run(*common, "epochs=2") == 2
    assert digits_run(*common, "epochs=2", "resume.override=true") == 0
    assert [json.loads(Path(f"out/{run}/summary.json").read_text())["epoch"] for run in "01"] == [2, 2]
    nowhere = ("-m", "dataset.download=false", "model.width=8", "logger=jsonl", "max_steps=1", "out_dir=other")
    assert corridor_train(*nowhere, "dataset.root=nowhere") == 1
    assert "1 of 1 runs failed" in capsys.readouterr().out
    assert corridor_train(*nowhere[:1], "dataset=digits", "model=mlp", *nowhere[3:]) == 0


def test_several_ranks_are_one_run_and_no_sweep(corridor_train: Run, corridor_sweep: Run, capsys, monkeypatch) -> None:
    for key, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "here"}.items():
        monkeypatch.setenv(key, value)
    assert corridor_train("-m", "seed=0,1") == corridor_sweep("seed=0,1") == 2
    assert capsys.readouterr().err.count("several ranks are one run: leave out -m") == 2
    assert not list(Path().iterdir())


def test_a_folder_named_like_an_interpolation_is_a_folder(digits_run: Run, tmp_path, monkeypatch) -> None:
    option = tmp_path / "a${seed}b c/conf/model/mine.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("_target_: corridor_exp.models.mlp\nwidth: 7\ndepth: 1\n")
    monkeypatch.chdir(tmp_path / "a${seed}b c")
    assert digits_run("model=mine", "max_steps=1", "--config-dir", "conf") == 0
    assert len(list(Path().glob("outputs/digits-mine/clr-seed0-*/summary.json"))) == 1
    assert digits_run("-m", "max_steps=1", "out_dir=out") == 0
    assert {f.name for f in Path().iterdir()} == {"conf", "out", "outputs"}
    assert {f.name for f in tmp_path.iterdir() if f.name != "cache"} == {"a${seed}b c"}


def test_a_sweep_that_is_too_large_is_refused_at_once(corridor_train: Run, capsys) -> None:
    begun = time.monotonic()
    for seeds in ("range(0,100000)", "range(0,inf)", "shuffle(range(0,100000000000))"):
        assert corridor_train("-m", f"seed={seeds}") == 2
        assert "more than 10,000 runs" in capsys.readouterr().err
    assert time.monotonic() - begun < 10


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
    deadline = time.monotonic() + 90
    while not (records_file.exists() and records_file.stat().st_size > 2000):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_row_4_a_signal_saves_exits_75_and_the_same_command_goes_on(digits_run: Run, tmp_path, number: int) -> None:
    process = started("epochs=30", "out_dir=out", records_file=tmp_path / "out/records.jsonl")
    process.send_signal(number)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "the same command goes on from here" in err
    assert json.loads((tmp_path / "out/summary.json").read_text())["status"] == "preempted"
    assert subprocess.run([*COMMAND, *LONG, "epochs=30", "out_dir=out"]).returncode == 0
    assert digits_run(*LONG, "epochs=30", "out_dir=whole") == 0
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
    argv = ("epochs=40", "checkpoint.every=7")
    process = started(*argv, "out_dir=out", records_file=tmp_path / "out/records.jsonl")
    process.kill()
    process.wait()
    assert digits_run(*LONG, *argv, "out_dir=out") == 0
    assert digits_run(*LONG, *argv, "out_dir=whole") == 0
    assert without_time(tmp_path / "out") == without_time(tmp_path / "whole")
