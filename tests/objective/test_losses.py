"""`loss=…`: the squared error against its formula, and which loss a run has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from corridor_exp.engine.build import build_engine
from corridor_exp.objective.losses import half_squared_error, logistic_loss
from corridor_exp.runs.reading import read
from tests.conftest import SMALL, engine_of

OUTPUTS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_squared_error_of_classes_of_two_classes_and_of_numbers() -> None:
    y = torch.tensor([0, 2, 1, 1, 0, 2, 2])
    expected = sum(((OUTPUTS[i] - torch.eye(3)[y[i]]) ** 2).sum() for i in range(7)) / 7 / 2
    assert half_squared_error(OUTPUTS, y) == pytest.approx(expected.item(), rel=1e-14)
    one, two = OUTPUTS[:, :1], torch.tensor([0, 1, 1, 0, 0, 1, 0])
    expected = sum((one[i, 0] - (1 if two[i] else -1)) ** 2 for i in range(7)) / 7 / 2
    assert half_squared_error(one, two) == pytest.approx(expected.item(), rel=1e-14)
    assert half_squared_error(OUTPUTS, OUTPUTS + 2) == pytest.approx(6.0)


def losses_of(*overrides: str) -> object:
    return engine_of(*overrides)[0].objective.loss_fn


def test_each_data_set_has_its_own_loss_unless_another_is_named() -> None:
    assert losses_of() is losses_of("loss=cross_entropy") is F.cross_entropy
    assert losses_of("loss=mse") is half_squared_error
    assert isinstance(losses_of("loss=torch.nn.CrossEntropyLoss"), torch.nn.CrossEntropyLoss)


def test_a_run_under_the_squared_error_learns(digits_run) -> None:
    assert digits_run("loss=mse", "epochs=20", "out_dir=run", "probe.every=4", "optim.step_cap=1") == 0
    run = read(Path("run"))
    assert run.config["loss"] == "mse"
    assert run.summary["metrics"]["test/accuracy"] > 0.5
    first = run.records[0]
    assert first["train/loss"] == pytest.approx(first["probe/h"] * first["train/grad_norm"] ** 2, rel=1e-4)


def absolute_error(outputs: Tensor, y: Tensor) -> Tensor:
    return (outputs - F.one_hot(y, 10)).abs().mean()


def test_a_loss_of_ones_own_needs_to_be_allowed(digits_run, capsys) -> None:
    name = "loss=tests.objective.test_losses.absolute_error"
    assert digits_run(name, "max_steps=1") == 2
    assert "loss=tests.objective.test_losses.absolute_error is not trusted" in capsys.readouterr().err
    assert digits_run("loss=os.system", "max_steps=1") == 2
    assert digits_run("loss=corridor_exp.models.mlp", "max_steps=1") == 2
    assert digits_run(name, "max_steps=1", "allow_targets=[tests.objective]", "out_dir=run") == 0
    assert json.loads(Path("run/summary.json").read_text())["status"] == "completed"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["loss=mean"], 2, "loss=mean: must be auto, cross_entropy, mse, or the dotted name"),
        (["loss=torch.nn.Linear"], 2, "_target_=torch.nn.Linear: missing a required argument"),
        (["loss=torch.nn.functional.mse_loss"], 2, "which is not trusted"),
        (["dataset=quadratic", "model=vector", "loss=cross_entropy"], 1, "loss=cross_entropy needs classes"),
    ],
)
def test_a_loss_that_cannot_be_is_refused_in_one_line(corridor_train, capsys, words, code, said) -> None:
    argv = ["dataset=digits", "model=mlp", *words, "logger=jsonl", "max_steps=1", "out_dir=run", "probe=none"]
    assert corridor_train(*argv) == code
    assert said in capsys.readouterr().err


def test_cross_entropy_of_two_classes_is_the_logistic_loss() -> None:
    from corridor_exp.config.compose import compose_jobs

    (config,) = compose_jobs(["dataset=breast_cancer", "model=logistic", "loss=cross_entropy", "logger=jsonl"], False)
    assert build_engine(config).objective.loss_fn is logistic_loss


def test_a_run_of_a_version_without_the_keys_is_the_same_run(digits_run) -> None:
    """Its folder goes on under the same command, and its run id is what it was."""
    from corridor_exp.config.compose import compose_jobs
    from corridor_exp.config.schema import Config
    from corridor_exp.files import load_yaml

    assert digits_run("max_steps=4", "out_dir=run") == 0
    file = Path("run/config.yaml")
    old = "".join(line for line in file.open() if "loss: auto" not in line and "label_noise" not in line)
    file.write_text(old)
    assert "loss" not in load_yaml(file)
    assert digits_run("max_steps=4", "out_dir=run") == 0
    (config,) = compose_jobs(SMALL, multirun=False)
    stored = {key: value for key, value in config.public().items() if key != "loss"}
    stored["dataset"] = {key: value for key, value in stored["dataset"].items() if key != "label_noise"}
    assert Config.parse(stored).run_id() == config.run_id()
    assert digits_run("max_steps=4", "out_dir=run", "loss=mse") == 2
