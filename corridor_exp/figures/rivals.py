"""The benchmark of step sizes: each method at its default and over its main setting, on several problems.

A problem is the runs of one name, a method those of one optimizer. Its main setting is the key of `optim` in which its
runs differ. The target of a problem is a mean training loss; what counts is the cost until then, in gradients.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import takewhile
from typing import Any

from corridor_exp.figures.run_statistics import gradients_to
from corridor_exp.runs import records
from corridor_exp.runs.groups import WORDS, Runs
from corridor_exp.runs.layout import Status
from corridor_exp.runs.reading import Run
from corridor_exp.runs.series import band, newest

Defaults = Mapping[str, Mapping[str, Any]]  # of the keys of each optimizer, by its name
METRICS = (records.TRAIN_EPOCH_LOSS, records.TEST_ACCURACY)


@dataclass(frozen=True)
class Point:
    """A plotted cell: how the runs of one setting ended, over its seeds. A divergence is an infinite loss."""

    problem: str
    method: str
    key: str
    setting: float | None
    metric: str
    median: float
    low: float
    high: float
    runs: int


@dataclass(frozen=True)
class Row:
    """A method on a problem. `gradients` is the median cost until the target: infinite if it is not reached.

    All about a tuned setting is NaN if there is only one setting.
    """

    problem: str
    method: str
    setting: str
    default: float | None
    default_loss: float
    default_gradients: float
    tuned: float | None
    tuned_loss: float
    tuned_gradients: float
    with_search: float
    good_decades: float  # width of the unbroken range of settings that reach the target, around the tuned one
    failures: str  # settings that do not reach it, of all
    marks: dict[str, str]  # what a cell says beside its value, by the name of its column


class Method:
    """The runs of a method on a problem."""

    def __init__(
        self, problem: str, name: str, runs: Sequence[Run], target: float, defaults: Mapping[str, Any]
    ) -> None:
        self.problem, self.name, self.runs, self.target = problem, name, runs, target
        self.label = WORDS.get(name, name)
        values = {key: {repr(run.config.get(f"optim.{key}")) for run in runs} for key in defaults}
        varied = [key for key, seen in values.items() if len(seen) > 1]
        self.setting = varied[0] if varied else ""
        self.default = defaults.get(self.setting)

    def setting_of(self, run: Run) -> float | None:
        return run.config.get(f"optim.{self.setting}")

    @cached_property
    def settings(self) -> dict[float | None, list[Run]]:
        """The runs of each value of the main setting, from the smallest; None, as of a bound, comes last."""
        found: dict[float | None, list[Run]] = {}
        for run in sorted(self.runs, key=lambda run: math.inf if (v := self.setting_of(run)) is None else v):
            found.setdefault(self.setting_of(run), []).append(run)
        return found

    def median(self, setting: float | None, of: Callable[[Run], float]) -> float:
        return statistics.median(map(of, self.settings[setting])) if setting in self.settings else math.inf

    def gradients(self, setting: float | None) -> float:
        return self.median(setting, lambda run: gradients_to(self.target, run))

    @cached_property
    def tuned(self) -> float | None:
        """The setting that reaches the target at the least cost, or else ends with the lowest loss.

        It is chosen on the seeds that all settings have, so that no setting is judged on other seeds than the rest. Of
        equals, such as bounds that never bind, the default is chosen.
        """
        common = set.intersection(*({run.seed for run in runs} for runs in self.settings.values()))

        def badness(setting: float | None) -> tuple[float, float, bool]:
            runs = [run for run in self.settings[setting] if run.seed in common] or self.settings[setting]
            gradients = statistics.median(gradients_to(self.target, run) for run in runs)
            return gradients, statistics.median(map(last_loss, runs)), setting != self.default

        return min(self.settings, key=badness)

    @property
    def good_decades(self) -> float:
        """The width of the unbroken range of settings that reach the target, around the tuned one.

        No bound, if that is the best, counts as beyond the largest.
        """
        tried = [setting for setting in self.settings if setting is not None]
        at = tried.index(self.tuned) if self.tuned in tried else len(tried) - 1
        reached = [math.isfinite(self.gradients(setting)) for setting in tried]
        if not tried or not reached[at]:
            return 0.0
        above, below = sum(takewhile(bool, reached[at:])), sum(takewhile(bool, reached[at::-1]))
        return math.log10(tried[at + above - 1] / tried[at - below + 1])

    def seeds_that_reach(self, setting: float | None) -> str:
        """For example "(2/3)". Empty if all seeds reach the target, or none."""
        runs = self.settings.get(setting, [])
        reached = sum(math.isfinite(gradients_to(self.target, run)) for run in runs)
        return f"({reached}/{len(runs)})" if 0 < reached < len(runs) else ""

    @property
    def is_at_an_end(self) -> bool:
        """Whether the best setting is the smallest or the largest, so that a better one may lie beyond."""
        tried = list(self.settings)
        return len(tried) > 1 and self.tuned is not None and self.tuned in (tried[0], tried[-1])

    @property
    def search(self) -> float:
        """The cost of one run of each setting, that with the lowest seed."""
        return sum(min(runs, key=lambda run: run.seed or 0).cost for runs in self.settings.values())

    def row(self) -> Row:
        missed = sum(math.isinf(self.gradients(setting)) for setting in self.settings)
        searched = len(self.settings) > 1
        marks = {"default_gradients": self.seeds_that_reach(self.default)}
        if searched:
            marks |= {"tuned": "*" if self.is_at_an_end else "", "tuned_gradients": self.seeds_that_reach(self.tuned)}
        return Row(
            self.problem,
            self.label,
            self.setting,
            self.default,
            self.median(self.default, last_loss),
            self.gradients(self.default),
            self.tuned if searched else math.nan,
            self.median(self.tuned, last_loss) if searched else math.nan,
            self.gradients(self.tuned) if searched else math.nan,
            self.gradients(self.tuned) + self.search if searched else math.nan,
            self.good_decades if searched else math.nan,
            f"{missed}/{len(self.settings)}",
            marks,
        )

    def points(self) -> Iterable[Point]:
        for setting, runs in self.settings.items():
            for metric in METRICS:
                values = [last(run, metric) for run in runs]
                known = [value for value in values if value is not None]
                if known:
                    yield Point(self.problem, self.label, self.setting, setting, metric, *band(known))


def last(run: Run, metric: str) -> float | None:
    """The last value of a metric. A run that did not complete has an infinite loss and no accuracy."""
    if run.status != Status.COMPLETED:
        return math.inf if metric == records.TRAIN_EPOCH_LOSS else None
    return newest(run.records, metric)


def last_loss(run: Run) -> float:
    value = last(run, records.TRAIN_EPOCH_LOSS)
    return math.inf if value is None or math.isnan(value) else value


def methods_of(runs: Runs, targets: Mapping[str, float], defaults: Defaults) -> list[Method]:
    """The methods, by problem, in the order of the targets. Problems without a target are left out."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs.runs:
        problem = str(run.config.get("name"))
        if problem in targets and run.records:
            groups.setdefault((problem, str(run.config.get("optim.name"))), []).append(run)
    order = list(targets)
    return [
        Method(problem, name, members, targets[problem], defaults.get(name, {}))
        for (problem, name), members in sorted(groups.items(), key=lambda group: order.index(group[0][0]))
    ]


def comparable(rows: Sequence[Row], cost: str) -> list[Row]:
    """The rows on the problems where every method has the cost, of the methods that were run on all of these."""
    unknown = {row.problem for row in rows if math.isnan(getattr(row, cost))}
    kept = [row for row in rows if row.problem not in unknown]
    problems = Counter(row.method for row in kept)
    return [row for row in kept if problems[row.method] == len({row.problem for row in kept})]


def profile(costs: Mapping[str, Mapping[str, float]]) -> dict[str, list[float]]:
    """For each method the factors of the best, in order, at which one more problem is solved (Dolan & Moré 2002).

    `costs` are by problem and method; infinite where the problem is not solved.
    """
    best = {problem: min(of.values()) for problem, of in costs.items()}
    names = dict.fromkeys(name for of in costs.values() for name in of)
    factors = {n: [of[n] / best[p] for p, of in costs.items() if math.isfinite(of.get(n, math.inf))] for n in names}
    return {name: sorted(values) for name, values in factors.items()}


def table(runs: Runs, targets: Mapping[str, float], defaults: Defaults) -> str:
    """A Markdown table with a line for each method, in which a cell has a value for each problem."""
    rows = [method.row() for method in methods_of(runs, targets, defaults)]
    problems = list(dict.fromkeys(row.problem for row in rows))
    known = {(row.method, row.problem): row for row in rows}
    beside = ("problem", "method", "setting", "default", "marks")
    names = [field.name for field in fields(Row) if field.name not in beside]
    lines = [["method", "setting", "default", *(name.replace("_", " ") for name in names)]]
    lines.append(["---"] * len(lines[0]))
    for method in ranked(rows, "default_gradients"):
        of = [known.get((method, problem)) for problem in problems]
        first = next(row for row in of if row)
        cells = [" ".join(_cell(row, name) if row else "." for row in of) for name in names]
        lines.append([method, first.setting, _shown(first.default), *cells])
    said = f"Values of {', '.join(problems)}. Never: the target is not reached; a dot: not run. "
    said += "Gradients are those of a batch. "
    said += "(2/3): two of three seeds reach it. *: the best setting is at an end of those that were tried.\n\n"
    return said + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ranked(rows: Sequence[Row], cost: str) -> list[str]:
    """The methods, by the number of problems that they solve, then by the mean log of their gradients, then by name."""
    known: dict[str, list[float]] = {}
    for row in rows:
        known.setdefault(row.method, []).append(getattr(row, cost))
    place = {}
    for name, costs in known.items():
        logs = [math.log(c) for c in costs if math.isfinite(c)]
        place[name] = (-len(logs), sum(logs) / max(len(logs), 1))
    return sorted(place, key=lambda name: (place[name], name))


def _cell(row: Row, name: str) -> str:
    return _shown(getattr(row, name)) + row.marks.get(name, "")


def _shown(value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    if value is None or math.isinf(value):
        return "–" if value is None else "never"
    return "." if math.isnan(value) else f"{value:.3g}"
