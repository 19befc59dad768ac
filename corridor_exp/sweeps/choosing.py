"""What the runs of a search say: how each setting ended, which is best, and what the search cost. Knows no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corridor_exp.config.differences import written_keys
from corridor_exp.runs import reading, records
from corridor_exp.runs.layout import Status

OF_YAML = {"None": "null", "True": "true", "False": "false"}  # so that a value can be given to a command again


@dataclass(frozen=True)
class Setting:
    """One setting of the searched keys, as on a command line, and its runs, which differ in their seed alone."""

    values: dict[str, str]
    runs: list[reading.Run]
    metric: str

    @property
    def value(self) -> float | None:
        """The mean over the runs of the metric at their end; None where one of them has not got there."""
        ends = [end(run, self.metric) for run in self.runs]
        return None if None in ends else sum(ends) / len(ends)  # type: ignore[arg-type]

    @property
    def score(self) -> tuple[float, float]:
        """What to minimise: the metric, then the loss on the same data. The test set has no say in a train/… metric."""
        tested = self.metric in (records.TEST_ACCURACY, records.TEST_LOSS)
        losses = [end(run, records.TEST_LOSS if tested else records.TRAIN_EPOCH_LOSS) for run in self.runs]
        loss = math.inf if None in losses else sum(losses)  # type: ignore[arg-type]
        if self.value is None:
            return math.inf, math.inf
        return (-self.value if self.metric == records.TEST_ACCURACY else self.value), loss

    @property
    def evaluations(self) -> float:
        """What its runs have cost, in gradients of a batch; of a fork without what its parent did."""
        return sum(run.cost - run.summary.get("parent", {}).get("evaluations", 0.0) for run in self.runs)


def end(run: reading.Run, metric: str) -> float | None:
    """The last value of a metric of a completed run; of its cost only if it has reached its `target_loss`."""
    metrics = run.summary.get("metrics", {})
    value, loss = metrics.get(metric), metrics.get(records.TRAIN_EPOCH_LOSS)
    target = run.tree.get("target_loss")
    if metric == records.TRAIN_EVALUATIONS and not (target and loss is not None and loss <= target):
        return None
    return value if run.status == Status.COMPLETED and value is not None and math.isfinite(value) else None


def settings_of(folders: Sequence[Path], keys: Sequence[str], metric: str) -> list[Setting]:
    """The settings that were tried, in the order of their first runs. An option is given by its group: `optim=clr`."""
    given = [key.removesuffix(".name").replace(".", "/") if key.endswith(".name") else key for key in keys]
    groups: dict[tuple[str, ...], list[reading.Run]] = {}
    for run in map(reading.read, folders):
        config = written_keys(run.tree)
        values = (config.get(key, "–") for key in keys)
        groups.setdefault(tuple(OF_YAML.get(value, value) for value in values), []).append(run)
    return [Setting(dict(zip(given, values, strict=True)), runs, metric) for values, runs in groups.items()]


def neighbours(best: Setting, settings: Sequence[Setting], key: str) -> tuple[float | None, float | None] | None:
    """The next lower and the next higher value that was tried; None for a key whose values are no numbers."""
    try:
        tried = sorted({float(setting.values[key]) for setting in settings})
    except ValueError:
        return None
    at = tried.index(float(best.values[key]))
    return (tried[at - 1] if at else None), (tried[at + 1] if at + 1 < len(tried) else None)


def result(settings: Sequence[Setting], metric: str) -> dict[str, Any] | None:
    """The best setting, between which others it lies, and what the search cost; None where no setting has a value."""
    best = min(settings, key=lambda setting: setting.score)
    if best.value is None:
        return None
    between = {key: neighbours(best, settings, key) for key in best.values}
    return {
        "best": best.values,
        "metric": metric,
        "value": best.value,
        "between": {key: pair for key, pair in between.items() if pair},
        "settings": len(settings),
        "runs": sum(len(setting.runs) for setting in settings),
        "evaluations": sum(setting.evaluations for setting in settings),
        "evaluations_of_best": best.evaluations,
    }
