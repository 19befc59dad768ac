"""Run directories written by hand, with known answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from corridor_exp.files import to_json
from corridor_exp.runs import layout, records
from corridor_exp.runs.groups import Runs

SEEDS = (30, 31, 32)


def write_run(
    folder: Path,
    losses: Iterable[float] = (),
    *,
    h: Sequence[float] = (),
    accuracy: float | None = None,
    status: str | None = "completed",
    looks: Sequence[tuple[float, float]] = (),
    optim: str = "clr",
    seed: int = 30,
    dataset: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    batch_size: int = 100,
    name: str = "made-up",
    gradients: float | None = None,
    probe_version: int = records.MIDPOINT_VERSION,
    ended: dict[str, Any] | None = None,
    **of_optim: Any,
) -> None:
    """One record an epoch of one step, its loss in `losses`; or one a step for `h` or `looks`, in one long epoch.

    `gradients` is the cost of an epoch.
    """
    folder.mkdir(parents=True)
    config = {
        "seed": seed,
        "batch_size": batch_size,
        "name": name,
        "dataset": {"name": "cifar10", "held_out": None, **(dataset or {})},
        "model": model or {},
        "optim": {"name": optim, **of_optim},
    }
    (folder / layout.CONFIG_FILE).write_text(yaml.safe_dump(config))
    lines: list[records.Record] = [
        {"step": n, "epoch": n, "time": n, records.TRAIN_LOSS: loss, records.TRAIN_EPOCH_LOSS: loss}
        for n, loss in enumerate(losses)
    ]
    if gradients is not None:
        for n, line in enumerate(lines, 1):
            line[records.TRAIN_EVALUATIONS] = n * gradients
    if accuracy is not None:
        for line in lines:
            line[records.TEST_ACCURACY] = accuracy
    for n, value in enumerate(h):
        if len(lines) <= n:
            lines.append({"step": n, "epoch": 0, "time": n, records.TRAIN_LOSS: 1.0})
        lines[n][records.TRAIN_LR] = value
    for n, (tangent, secant) in enumerate(looks):
        index = {records.CORRIDOR_INDEX: tangent, records.SECANT_CORRIDOR_INDEX: secant}
        index[records.PROBE_VERSION] = probe_version
        lines.append({"step": n, "epoch": 0, "time": n, records.TRAIN_LOSS: 1.0, **index})
    (folder / layout.RECORDS_FILE).write_text("".join(to_json(line) + "\n" for line in lines))
    if status:
        (folder / layout.SUMMARY_FILE).write_text(json.dumps({"status": status, "git_commit": "abc", **(ended or {})}))


def as_figure(folder: Path, figure: str, scale: str = "mini") -> Runs:
    """The runs below `folder` as `corridor-sweep figure=… scale=…` would have left them."""
    manifest = {
        "command": [f"figure={figure}", f"scale={scale}"],
        "runs": sorted(run.name for run in folder.iterdir() if run.is_dir()),
        "time": "2026-01-02T03:04:05+00:00",
        "git_commit": "0123456789abcdef",
    }
    (folder / "sweep.json").write_text(json.dumps(manifest))
    return Runs.read(folder)
