"""What the tests of `corridor-sweep` share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from corridor_exp.runs import reading

COMMAND = [sys.executable, "-m", "corridor_exp.cli.sweep"]
MULTIRUN = [sys.executable, "-m", "corridor_exp.cli.train", "-m"]
DIGITS = ["dataset=digits", "model=mlp", "model.width=16", "logger=jsonl", "probe=none"]
SHORT = [*DIGITS, "max_steps=3", "log_every=1"]
LONG = [*DIGITS, "optim=sgd", "batch_size=50", "log_every=1", "epochs=100000"]
CRASHING = ["model._target_=tests.sweeps.crashing.network", "allow_targets=[tests.sweeps.]"]
Run = Callable[..., int]


def summary(folder: Path) -> dict[str, object]:
    return reading.read_summary(folder)


def has_records(folder: Path) -> bool:
    file = folder / "records.jsonl"
    return file.exists() and file.stat().st_size > 2000
