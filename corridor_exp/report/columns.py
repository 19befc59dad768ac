"""The records of a run as columns of numbers, which take a tenth of the memory that the records take."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from corridor_exp.runs.records import Record
from corridor_exp.runs.series import Epochs
from corridor_exp.runs.text import rounded

WHERE = ("step", "epoch", "time")
Point = tuple[int, Any]  # a step, and a number, None, or "nan", "inf", "-inf"


class Curve:
    """One metric over the steps at which it was recorded. `None` is a NaN here, and its place is among the nulls."""

    def __init__(self) -> None:
        self.steps, self.values, self.nulls = array("q"), array("d"), set[int]()

    def append(self, step: int, value: float | None) -> None:
        if value is None:
            self.nulls.add(len(self.steps))
            value = np.nan
        self.steps.append(step)
        self.values.append(value)

    def points(self, longest: int, digits: int) -> list[Point]:
        """At most `longest` of the points, in order, with values of so many digits: see `places_kept`."""
        values = np.frombuffer(self.values)
        return [
            (self.steps[i], None if i in self.nulls else rounded(values[i], digits))
            for i in places_kept(values, longest)
        ]

    def every(self, longest: int) -> list[tuple[int, float]]:
        """About so many of the points, at equal distances, and the last one."""
        step = len(self.steps) // longest + 1
        points = zip(self.steps[::step], self.values[::step], strict=True)
        last = zip(self.steps[-1:], self.values[-1:], strict=True)
        return list(dict.fromkeys((*points, *last)))


class Columns:
    """What the page needs of all records: curves, the clock, the epochs, and the newest value of each metric."""

    def __init__(self) -> None:
        self.curves: dict[str, Curve] = {}
        self.clock = Curve()
        self.newest: dict[str, Any] = {}
        self.epochs = Epochs([])

    def take(self, records: Iterable[Record]) -> list[Record]:
        """Go through the records of a run, and return the last one."""
        curves, record = self.curves, None
        for record in records:
            step = record["step"]
            self.clock.append(step, record["time"])
            self.epochs.take(record)
            for key, value in record.items():
                if key not in WHERE:
                    if key not in curves:
                        curves[key] = Curve()
                    curves[key].append(step, value)
                    if value is not None:
                        self.newest[key] = value
        return [record] if record else []


def places_kept(values: np.ndarray, longest: int) -> list[int]:
    """At most `longest` places, in order: both ends, and of each stretch the extremes and one that is not finite.

    So a spike stays, which an average or every n-th point would hide.
    """
    if len(values) <= longest:
        return list(range(len(values)))
    finite = np.isfinite(values)
    low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
    kept = {0, len(values) - 1}
    edges = np.linspace(1, len(values) - 1, (longest - 2) // 3 + 1).astype(int)
    for start, end in pairwise(edges):
        inside = finite[start:end]
        if not inside.all():
            kept.add(int(start + inside.argmin()))
        if inside.any():
            kept.update((int(start + low[start:end].argmin()), int(start + high[start:end].argmax())))
    return sorted(kept)
