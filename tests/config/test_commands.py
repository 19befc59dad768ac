"""A stored configuration gives the command that leads to it."""

from __future__ import annotations

import shlex

import pytest

from corridor_exp.config.commands import commands
from corridor_exp.config.compose import compose_jobs
from corridor_exp.config.differences import identity


@pytest.mark.parametrize(
    "line",
    [
        "",
        "dataset=digits model=mlp seed=3 out_dir=away",
        "dataset=digits model=mlp optim=sgd optim.lr=0.5 optim/schedule=cosine optim.schedule.warmup=20 probe=none",
        "optim=adam optim.betas=[0.5,0.9] logger=jsonl probe=[corridor,sharpness] probe.corridor.images=fixed",
        "optim.step_cap=10 batch_size=full checkpoint.every=10min engine.precision=fp32 dataset.root='/a b/c'",
        "dataset=digits model=mlp probe.until=100",
        "optim=schedule_free name=\"'true'\" max_steps=7 l2=1e-3",
    ],
)
def test_the_command_of_a_configuration_composes_it(line: str) -> None:
    (config,) = compose_jobs(shlex.split(line), multirun=False)
    (command,) = commands([config.public()])
    assert command is not None
    first, *overrides = shlex.split(command)
    (again,) = compose_jobs(overrides, multirun=False)
    assert (first, identity(again.public())) == ("corridor-train", identity(config.public()))


def test_what_is_the_default_is_not_in_the_command() -> None:
    (config,) = compose_jobs(["dataset=digits", "model=mlp", "optim=sgd", "optim.lr=0.5", "logger=jsonl"], False)
    (command,) = commands([config.public()])
    assert command == "corridor-train dataset=digits model=mlp optim=sgd logger=jsonl optim.lr=0.5"


def test_what_no_command_of_ours_gives_has_none() -> None:
    (config,) = compose_jobs([], multirun=False)
    stored = config.public()
    own = {**stored, "model": {"name": "mine", "_target_": "mine.Network"}}
    assert commands([{}, {"optim": []}, {**stored, "of_another_version": 1}, own]) == [None] * 4
