"""A search for the best value of one or two keys: what is asked for, and which settings to try next. Knows no torch.

The runs of a search are a sweep, whose folders are the truth. Lists are one grid. Of intervals the first settings are
a grid, and Optuna proposes the others. Its journal, beside the runs, holds every setting that was proposed, so that an
interrupted search goes on.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from corridor_exp.config.differences import fingerprint, varied_keys, written_keys
from corridor_exp.config.mistakes import first_problem
from corridor_exp.config.schema import Config
from corridor_exp.config.settings import Keys
from corridor_exp.config.values import Count
from corridor_exp.errors import UsageError, extra
from corridor_exp.runs import records
from corridor_exp.runs.text import rounded
from corridor_exp.sweeps.choosing import Setting
from corridor_exp.sweeps.request import Request

JOURNAL = "optuna.log"
GRID = {1: 5, 2: 3}  # values of each key in the first settings of a search, by the number of keys
DIGITS = 4  # of a proposed value, which a command line can show
NUMBER = r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"
INTERVAL = re.compile(rf"([\w.]+)=({NUMBER})\.\.({NUMBER})(?::(\w*))?")


class Tuning(Keys):
    """The settings of a search itself."""

    metric: Literal["test/accuracy", "test/loss", "train/epoch_loss", "train/evaluations"] = "test/accuracy"
    trials: Count = 10

    @classmethod
    def take(cls, arguments: Sequence[str]) -> tuple[Tuning, list[str]]:
        """These settings among the arguments of a command line, and the other arguments."""
        pairs = [argument.partition("=")[::2] for argument in arguments]
        others = [a for a, (key, _) in zip(arguments, pairs, strict=True) if key not in cls.model_fields]
        try:
            return cls.model_validate({key: value for key, value in pairs if key in cls.model_fields}), others
        except ValidationError as error:
            raise UsageError(first_problem(error, cls.model_fields)) from None


@dataclass(frozen=True)
class Interval:
    """`KEY=LOW..HIGH`, on a logarithmic scale, or `KEY=LOW..HIGH:linear`."""

    key: str
    low: float
    high: float
    log: bool

    @classmethod
    def read(cls, argument: str) -> Interval | None:
        """The interval that an argument asks for; None where it asks for something else."""
        match = INTERVAL.fullmatch(argument)
        if not match:
            return None
        low, high, scale = float(match[2]), float(match[3]), match[4] or "log"
        if scale not in ("log", "linear"):
            raise UsageError(f"{argument}: the scale of an interval is log or linear")
        if not (low < high < math.inf and (low > 0 or scale == "linear")):
            need = "above 0 and below" if scale == "log" else "below"
            raise UsageError(f"{argument}: the lower end must be {need} the upper one")
        return cls(match[1], low, high, scale == "log")

    def grid(self, count: int) -> list[float]:
        """So many values, evenly spaced on the scale, both ends among them."""
        spaced = np.geomspace if self.log else np.linspace
        return spaced(self.low, self.high, count).tolist()


class Study:
    """The settings that a search of intervals has proposed so far, in Optuna's journal in `directory`."""

    def __init__(self, directory: Path, intervals: Sequence[Interval], tuning: Tuning) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.intervals, self.trials = intervals, tuning.trials
        storage = JournalStorage(JournalFileBackend(str(directory / JOURNAL)))
        # Another search in this folder has another name, and so begins with its own grid; its runs are refused there.
        name = f"{tuning.metric} over {intervals}"
        self.study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
        self.sampler_of = optuna.samplers.TPESampler
        self.space: dict[str, Any] = {
            i.key: optuna.distributions.FloatDistribution(i.low, i.high, log=i.log) for i in intervals
        }
        count = GRID[len(intervals)]
        while count > 2 and count ** len(intervals) > self.trials:
            count -= 1
        keys = [i.key for i in intervals]
        self.grid = [dict(zip(keys, point, strict=True)) for point in product(*(i.grid(count) for i in intervals))]

    @property
    def proposed(self) -> list[dict[str, float]]:
        return [self._as_given(trial.params) for trial in self.study.trials if trial.params]

    def _as_given(self, values: Mapping[str, float]) -> dict[str, float]:
        """The values as a run gets them: short, and within their intervals."""
        return {i.key: min(max(rounded(values[i.key], DIGITS), i.low), i.high) for i in self.intervals}

    def propose(self, count: int) -> bool:
        """Add so many settings; of the grid all at once. False where the search has proposed enough."""
        begun = len(self.proposed)
        # A search with fewer trials had a coarser grid, so the points that are missing may be any.
        missing = [point for point in self.grid if self._as_given(point) not in self.proposed]
        wanted = max(min(len(missing) or count, self.trials - begun), 0)
        for point in missing[:wanted]:
            self.study.enqueue_trial(point, skip_if_exists=True)  # a start that was killed may have queued it
        for number in range(begun, begun + wanted):
            # The seed is the trial's, so that an interrupted search proposes what an uninterrupted one does.
            self.study.sampler = self.sampler_of(seed=number, n_startup_trials=1, constant_liar=True)
            self.study.ask(self.space)
        return wanted > 0

    def tell(self, settings: Iterable[Setting]) -> None:
        """Report what has been found; a setting with a run that did not complete is the worst."""
        results = {tuple(s.values[i.key] for i in self.intervals): s.score[0] for s in settings}
        for trial in self.study.trials:
            place = tuple(map(str, self._as_given(trial.params).values())) if trial.params else ()
            if not trial.state.is_finished() and place in results:
                self.study.tell(trial.number, results[place])


class Search:
    """What a command line asks for: which keys to search, and by which metric, in which folder."""

    def __init__(self, arguments: Sequence[str], config_dir: str | None) -> None:
        if "+" in arguments:
            raise UsageError("a search has no +: give a key a list or an interval")
        self.tuning, others = Tuning.take(arguments)
        self.config_dir = config_dir
        intervals = {argument: Interval.read(argument) for argument in others}
        self.intervals = [interval for interval in intervals.values() if interval]
        if self.intervals:
            self._check_intervals()
        self.common = [*self._defaults(others), *(a for a in others if not intervals[a])]
        self.directory: Path | None = None
        first = self.request([{i.key: i.low for i in self.intervals}])
        self.settings = first.settings
        self.keys = self._keys(first)
        self.directory = first.directory if self.settings.out_dir else self._own_folder(first)

    def request(self, points: Sequence[Mapping[str, float]]) -> Request:
        """The sweep of these settings of the intervals; without any, of the lists."""
        grids = [["+", *(f"{key}={value!r}" for key, value in point.items())] for point in points if point]
        return Request([*self.common, *(word for grid in grids for word in grid)], self.config_dir, self.directory)

    def study(self) -> Study | None:
        return Study(self.directory, self.intervals, self.tuning) if self.directory and self.intervals else None

    def _check_intervals(self) -> None:
        """Raises `UsageError` where they cannot be searched, before there is a folder."""
        (key, count), *_ = Counter(interval.key for interval in self.intervals).most_common()
        if count > 1:
            raise UsageError(f"{key} has {count} intervals: give one")
        fewest = 2 ** len(self.intervals)
        if self.tuning.trials < fewest:
            begin = f"the search begins at the {fewest} ends of its intervals"
            raise UsageError(f"trials={self.tuning.trials}: {begin}; set {fewest} or more")
        if not find_spec("optuna"):
            raise UsageError(f"the search of an interval needs optuna: {extra('tune')}; a list of values does not")

    def _defaults(self, arguments: Sequence[str]) -> list[str]:
        given = {argument.partition("=")[0] for argument in arguments}
        held_out = {"dataset.held_out": "0.1"} if self.tuning.metric.startswith("test/") else {}
        return [f"{key}={value}" for key, value in {"probe": "none", **held_out}.items() if key not in given]

    def _keys(self, first: Request) -> list[str]:
        """The keys to search. Raises `UsageError` for what cannot be searched."""
        if self.settings.figure:
            raise UsageError("figure= has runs of its own: say what to tune by overrides")
        configs = self._composed(first)
        if self.tuning.metric == records.TRAIN_EVALUATIONS and not configs[0].target_loss:
            raise UsageError("metric=train/evaluations is the cost until a loss is reached: set target_loss")
        varied = [key for key in varied_keys(written_keys(c.public()) for c in configs) if key != "seed"]
        if self.intervals and varied:
            raise UsageError(f"beside an interval only seed may be a list, and not {varied[0]}")
        keys = [interval.key for interval in self.intervals] or varied
        if not 1 <= len(keys) <= 2:
            here = ", ".join(keys) or "none"
            raise UsageError(f"give one or two keys a list (optim.lr=0.1,1) or an interval (optim.lr=0.01..1): {here}")
        return keys

    def _composed(self, first: Request) -> list[Config]:
        try:
            return first.configs
        except UsageError as error:
            if "'dataset.held_out'" not in str(error):
                raise
            raise UsageError("this data set has no key held_out: choose by metric=train/epoch_loss") from None

    def _own_folder(self, first: Request) -> Path:
        asked = {"command": first.command, "intervals": str(self.intervals), "metric": self.tuning.metric}
        return Path("outputs").absolute() / first.configs[0].name / f"tune-{fingerprint([asked])}"
