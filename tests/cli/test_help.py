"""What `corridor-train` and `corridor-sweep` say before they do anything: help, completion, a configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

COMMAND = [sys.executable, "-m", "corridor_exp.cli.train"]
Run = Callable[..., int]


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
    done = subprocess.run(
        [*COMMAND, "dataset=digits", "model=mlp", *flags], env=environment, capture_output=True, text=True
    )
    assert "loading torch" in done.stderr.split("this is torch")[0]
    assert done.stderr.rstrip().endswith("this is torch")


def test_help_of_a_sweep_has_examples_and_torch_stays_out() -> None:
    for argv, said in ((["--help"], "+ optim=clr + optim=sgd"), (["optim=crl"], "did you mean")):
        code = (
            f"import sys; from corridor_exp.cli.sweep import main\n"
            f"try: main({argv})\nexcept SystemExit: print('torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert said in done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == "False"
