"""`--estimate`: the cost of runs before they start."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from tqdm import tqdm

from corridor_exp.config.differences import fingerprint
from corridor_exp.config.schema import Config

if TYPE_CHECKING:
    from corridor_exp.engine.estimate import Estimate


def report(configs: Sequence[Config], processes: int = 1) -> str:
    """The cost of one run of each kind, and of all runs. Runs that differ only in seed or rate are of one kind."""
    kinds: dict[str, list[Config]] = {}
    for config in configs:
        kinds.setdefault(_kind(config), []).append(config)
    costs = _measure([members[0] for members in kinds.values()])
    lines, total = [], 0.0
    for members, cost in zip(kinds.values(), costs, strict=True):
        total += cost.seconds * len(members)
        lines += [
            f"{members[0].name}, {members[0].optim.name}, batch {cost.batch_size}: {len(members)} "
            f"run{'s' * (len(members) > 1)} of {_time(cost.seconds)} on {cost.device}, {cost.memory / 1e9:.2f} GB",
            f"  {cost.steps:,} steps of {_short(cost.step)}, {cost.batch_size / cost.step:,.0f} images/s",
        ]
        if cost.looks:
            lines.append(f"  {cost.looks:,} looks of {_short(cost.look)}")
        if cost.evaluations:
            lines.append(f"  {cost.evaluations:,} evaluations of {_short(cost.evaluation)}")
    if len(configs) > 1:
        at_once = f", {_time(total / processes)} with {processes} at a time" if processes > 1 else ""
        lines.append(f"in all: {len(configs)} runs, {_time(total)} one after the other{at_once}")
    return "\n".join(lines)


def _measure(configs: Sequence[Config]) -> list[Estimate]:
    """Measure each, with a bar that shows the current phase."""
    with tqdm(desc="loading torch", bar_format="{desc} {n_fmt}/{total_fmt} |{bar}| {elapsed}", leave=False) as bar:
        from corridor_exp.engine.estimate import PHASES, estimate  # torch, only now

        def begins(phase: str) -> None:
            bar.set_description(f"{phase} {config.name}, {config.optim.name}")
            bar.update()

        bar.total = len(configs) * len(PHASES)
        costs = []
        for config in configs:
            costs.append(estimate(config, begins))  # noqa: PERF401, as `begins` reads the loop's variable
        return costs


def _kind(config: Config) -> str:
    identity = config.identity()
    optim = {key: value for key, value in identity["optim"].items() if key != "lr"}
    return fingerprint([{**identity, "seed": None, "name": None, "optim": optim}])


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _short(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
