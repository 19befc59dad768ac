"""What makes a claim reproduced, not reproduced or undecided, from one number a seed.

Reproduced: every seed passes the margin. Not reproduced: every seed fails it the other way. Else undecided; and so it
is where a run is missing, where the best rate sits at the edge of the sweep, where a cap binds, and where the budget
ends too early to tell.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scipy.stats import t as student

from corridor_exp.figures.run_statistics import UndecidedError
from corridor_exp.runs.groups import Runs

SEEDS = 3
FEWEST_IMAGES = 1000


@dataclass(frozen=True)
class Statistic:
    """One value a seed, and which values pass and which fail."""

    values: dict[int, float]
    passes: Callable[[float], bool]
    fails: Callable[[float], bool]
    remark: str = ""
    open: frozenset[int] = frozenset()  # seeds whose budget ended too early to tell


@dataclass(frozen=True)
class Claim:
    figure: str
    statement: str
    statistic: str
    rule: str
    measure: Callable[[Runs], Statistic]
    among: dict[str, str] = field(default_factory=dict)  # what the configurations of the figure's runs must say


@dataclass(frozen=True)
class Verdict:
    """A claim's row in the ledger. The interval is Student's, 95 %, over the seeds."""

    figure: str
    statement: str
    statistic: str
    rule: str
    scale: str | None
    verdict: str
    values: dict[int, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    remark: str = ""


def judge(claim: Claim, runs: Runs | None) -> Verdict:
    """The verdict on a claim, from the runs of its figure."""
    row = claim.figure, claim.statement, claim.statistic, claim.rule
    runs = runs and runs.among(**claim.among)
    if not runs:
        return Verdict(*row, None, "undecided", remark="no runs")
    try:
        if runs.lacking:
            raise UndecidedError(f"the runs of {', '.join(runs.lacking)} are missing")
        _require_finished(runs)
        seen = claim.measure(runs)
    except UndecidedError as reason:
        return Verdict(*row, runs.scale, "undecided", remark=str(reason))
    remark, verdict = seen.remark, "undecided"
    if len(seen.values) < SEEDS:
        remark = f"{len(seen.values)} seeds of {SEEDS}" + (f"; {remark}" if remark else "")
    elif all(map(seen.passes, seen.values.values())):
        verdict = "reproduced"
    elif seen.open:
        remark = f"the budget ended too early for seeds {', '.join(map(str, sorted(seen.open)))}"
    elif all(map(seen.fails, seen.values.values())):
        verdict = "not reproduced"
    return Verdict(*row, runs.scale, verdict, seen.values, interval(list(seen.values.values())), remark)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean; None where it has none."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    mean, half = statistics.mean(values), student.ppf(0.975, len(values) - 1) * statistics.stdev(values)
    return mean - half / math.sqrt(len(values)), mean + half / math.sqrt(len(values))


def _require_finished(runs: Runs) -> None:
    """A divergence is a result. A run that failed, that did not end, or that shows a smoke test's images is none."""
    if runs.unfinished:
        raise UndecidedError(runs.unfinished)
    images = min((run.summary.get("train_images") or FEWEST_IMAGES for run in runs.runs), default=FEWEST_IMAGES)
    if images < FEWEST_IMAGES:
        raise UndecidedError(f"{images} training images decide nothing")


def ledger(rows: Sequence[Verdict]) -> str:
    """The claims as text: two lines each, with all the values."""
    lines = []
    for row in rows:
        values = ", ".join(f"{seed}: {value:.3g}" for seed, value in sorted(row.values.items())) or "–"
        spread = f"; 95 % interval {row.interval[0]:.3g} to {row.interval[1]:.3g}" if row.interval else ""
        remark = f"\n    {row.remark}" if row.remark else ""
        lines.append(
            f"{row.verdict:<15} {row.figure}  {row.statement}  [{row.scale or 'no scale'}]\n"
            f"    {row.statistic} {row.rule}; by seed {values}{spread}{remark}"
        )
    return "\n".join(lines)
