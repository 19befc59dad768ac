"""The claim about tuned rivals, by the rule of docs/rules.md, and the runs that it still needs.

    python scripts/rivals_claim.py RUNS…

The folders hold the benchmark (conf/figure/rivals_small.yaml, rivals_cifar.yaml) and the sweeps that this script asked
for. Prints the cost to the target by problem and seed, and the verdict. While a rival has no best rate by the rule, it
first prints the command of one sweep, the next stage for all problems that have runs.
"""

from __future__ import annotations

import math
import shlex
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from corridor_exp.config.options import CONF_DIR
from corridor_exp.figures.run_statistics import epoch_losses, gradients_to
from corridor_exp.runs.groups import Runs
from corridor_exp.runs.layout import ENDED
from corridor_exp.runs.reading import Run
from corridor_exp.runs.text import rounded
from corridor_exp.sweeps.grids import load_figure

OURS = "clr_trust"
RIVALS = {"SGD": ("sgd", 0.0), "SGD with momentum": ("sgd", 0.9), "AdamW": ("adamw", None)}
DECADES = {"sgd": (0.001, 0.01, 0.1, 1.0, 10.0), "adamw": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)}
SEEDS = (40, 41, 42)
WITHIN, ENOUGH = 1.3, 4
BENCHMARKS = ("rivals_small", "rivals_cifar")


@dataclass(frozen=True)
class Rival:
    """A rival on a problem, with its runs by rate and seed."""

    name: str
    target: float
    runs: dict[float, dict[int, Run]]

    @classmethod
    def of(cls, name: str, target: float, runs: list[Run]) -> Rival:
        optim, momentum = RIVALS[name]
        found: dict[float, dict[int, Run]] = {}
        for run in runs:
            if run.config.get("optim.name") == optim and run.config.get("optim.momentum") == momentum:
                found.setdefault(run.config["optim.lr"], {})[run.seed or 0] = run
        return cls(name, target, dict(sorted(found.items())))

    @property
    def complete(self) -> list[float]:
        return [rate for rate, by_seed in self.runs.items() if set(SEEDS) <= by_seed.keys()]

    @cached_property
    def best(self) -> float:
        """The best of the rates that have all seeds."""
        return min(self.complete, key=lambda rate: self.slowness(rate, SEEDS))

    @property
    def beyond(self) -> list[float]:
        """The neighbours of the best rate, √2 below and above, that have not all seeds."""
        neighbours = [rounded(self.best * factor, 2) for factor in (2**-0.5, 2**0.5)]
        near = lambda a, b: abs(math.log(a / b)) < 0.1  # noqa: E731  rates are rounded to two digits
        return [rate for rate in neighbours if not any(near(rate, known) for known in self.complete)]

    def slowness(self, rate: float, seeds: tuple[int, ...]) -> tuple[int, float]:
        """The key of "best": the seeds that do not get to the target, then the mean of log₂ G, or of the last loss."""
        runs = [self.runs[rate][seed] for seed in seeds]
        logs = [math.log2(g) for run in runs if math.isfinite(g := gradients_to(self.target, run))]
        return len(seeds) - len(logs), statistics.mean(logs or [epoch_losses(run)[-1] for run in runs])

    def wanted(self) -> tuple[list[float], tuple[int, ...]]:
        """The rates and seeds that are to be run next; no rate if nothing is missing."""
        rates, seeds = self.missing()
        return (rates, seeds) if rates else (self.beyond, SEEDS)

    def missing(self) -> tuple[list[float], tuple[int, ...]]:
        """The rates and seeds that the two stages lack, before the rates beyond an end of the second one."""
        one, first = list(DECADES[RIVALS[self.name][0]]), SEEDS[:1]
        one += [rate for rate in self.runs if _is_decade(rate) and rate not in one]
        if missing := [rate for rate in sorted(one) if SEEDS[0] not in self.runs.get(rate, {})]:
            return missing, first
        best = min(one, key=lambda rate: self.slowness(rate, first))
        if best in (min(one), max(one)):
            return [rounded(best * 10 if best == max(one) else best / 10, 2)], first
        two = [rounded(best * factor, 2) for factor in (2**-0.5, 1, 2**0.5)]
        return [rate for rate in two if rate not in self.complete], SEEDS

    def search(self) -> float:
        """What its runs under the first seed have cost until the target, or in all."""
        runs = [by_seed[SEEDS[0]] for by_seed in self.runs.values() if SEEDS[0] in by_seed]
        return sum(min(gradients_to(self.target, run), run.cost) for run in runs)


def _is_decade(rate: float) -> bool:
    return math.isclose(math.log10(rate), round(math.log10(rate)), abs_tol=1e-9)


@dataclass(frozen=True)
class Problem:
    """A problem, and what its runs say of the claim."""

    name: str
    target: float
    ours: dict[int, Run]
    rivals: list[Rival]

    @classmethod
    def of(cls, name: str, target: float, runs: Runs) -> Problem:
        members = [run for run in runs.where(name=name) if run.status in ENDED]
        ours = {run.seed or 0: run for run in members if _is_ours(run)}
        return cls(name, target, ours, [Rival.of(rival, target, members) for rival in RIVALS])

    @property
    def ready(self) -> bool:
        return set(SEEDS) <= self.ours.keys() and all(rival.complete for rival in self.rivals)

    def chosen(self, among: str | None = None) -> Rival:
        """The cheapest rival, or the named one."""
        allowed = [rival for rival in self.rivals if among in (None, rival.name)]
        return min(allowed, key=lambda rival: rival.slowness(rival.best, SEEDS))

    def within(self, seed: int, rival: Rival, searched: bool = False) -> bool | None:
        """Whether ours is within 1.3 of the rival under a seed. None: open."""
        ours, theirs = (
            gradients_to(self.target, self.ours[seed]),
            gradients_to(self.target, run := rival.runs[rival.best][seed]),
        )
        if math.isinf(ours):
            return False
        bound = min(theirs, run.cost) + (rival.search() if searched else 0.0)
        if ours > WITHIN * bound:
            return False if math.isfinite(theirs) else None
        return None if rival.beyond or self._has_a_stage_to_come(rival) else True

    def _has_a_stage_to_come(self, rival: Rival) -> bool:
        """Whether another rival lacks a stage, and so may be cheaper than this one, which is the cheapest of all."""
        return rival is self.chosen() and any(other.missing()[0] for other in self.rivals)

    def rows(self) -> Iterator[str]:
        yield f"| {self.name} | {OURS} | {self._costs(self.ours)} | |"
        for rival in self.rivals:
            mark = "←" if rival is self.chosen() else ""
            costs = self._costs(rival.runs[rival.best])
            yield f"| {self.name} | {rival.name}, rate {rival.best:g} | {costs} | {mark} |"

    def _costs(self, runs: dict[int, Run]) -> str:
        return " ".join(f"{gradients_to(self.target, runs[seed]):.0f}" for seed in SEEDS)


def _is_ours(run: Run) -> bool:
    return run.config.get("optim.name") == OURS and run.config.get("optim.step_cap") is None


def counts(problems: list[Problem], among: str | None = None, searched: bool = False) -> list[tuple[int, int]]:
    """Of each seed: the problems within 1.3, and the open ones. A problem without its runs is open."""
    found = []
    for seed in SEEDS:
        answers = [p.within(seed, p.chosen(among), searched) if p.ready else None for p in problems]
        found.append((answers.count(True), answers.count(None)))
    return found


def verdict(found: list[tuple[int, int]]) -> str:
    if all(w >= ENOUGH for w, _ in found):
        return "reproduced"
    return "not reproduced" if all(w + o < ENOUGH for w, o in found) else "undecided"


def next_sweep(problems: list[Problem], directory: Path) -> str:
    """The command of the next stage; empty where none is needed."""
    figures = [load_figure([CONF_DIR], name) for name in BENCHMARKS]
    grids, common = [], figures[0].common
    for problem in (p for p in problems if p.ours):
        line = next(
            f"{_own(f.common, common)} {s}" for f in figures for s in f.settings if f"name={problem.name} " in s
        )
        for rival in problem.rivals:
            rates, seeds = rival.wanted()
            if rates:
                optim, momentum = RIVALS[rival.name]
                keys = f"optim={optim}" + (f" optim.momentum={momentum}" if momentum is not None else "")
                values = [",".join(f"{rate:g}" for rate in rates), ",".join(map(str, seeds))]
                grids.append(f"+ {line} {keys} optim.lr={values[0]} seed={values[1]}".replace("  ", " "))
    if not grids:
        return ""
    stage = 1 + len(list(directory.glob("tuned-*")))
    start = f"corridor-sweep {_own(common, 'seed')} processes=2 out_dir={directory}/tuned-{stage}"
    return " \\\n    ".join([start, *grids])


def _own(line: str, other: str) -> str:
    """The overrides of a line without those of keys that another line has."""
    taken = {word.partition("=")[0] for word in shlex.split(other)}
    return " ".join(word for word in shlex.split(line) if word.partition("=")[0] not in taken)


def main(directories: list[Path]) -> None:
    runs = Runs.together("rivals", [Runs.read(directory) for directory in directories])
    if not runs:
        sys.exit(f"no runs in {', '.join(map(str, directories))}: corridor-sweep figure={BENCHMARKS[0]} makes them")
    figures = [load_figure([CONF_DIR], name) for name in BENCHMARKS]
    targets = {name: target for figure in figures for name, target in figure.targets.items()}
    problems = [Problem.of(name, target, runs) for name, target in targets.items()]
    if command := next_sweep(problems, directories[0]):
        print(f"{command}\n")
    print(f"| problem | method | gradients to the target, seeds {SEEDS} | cheapest rival |\n| --- | --- | --- | --- |")
    for problem in problems:
        if problem.ready:
            print("\n".join(problem.rows()))
    for what, found in (
        ("the cheapest rival", counts(problems)),
        *((name, counts(problems, name)) for name in RIVALS),
        ("the cheapest rival, search included", counts(problems, searched=True)),
    ):
        said = ", ".join(f"{w} of {len(problems)} ({o} open)" for w, o in found)
        print(f"{what}: within {WITHIN}, by seed: {said}: {verdict(found)}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main([Path(word) for word in sys.argv[1:]])
