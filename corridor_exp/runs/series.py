"""The numbers of runs over their epochs and over their seeds. Knows no torch."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Sequence

from corridor_exp.runs.records import TRAIN_EPOCH_LOSS, Record


class Epochs:
    """The epochs of a run by its steps, from the last record of each epoch.

    A resume with another batch size changes the length of an epoch. Each epoch keeps its own length. Steps after the
    last end count by the length of the last epoch. `ends` are pairs (steps done, epochs done): the start, each end at
    which the length changes, and the last end.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.ends = [(0, 0)]
        for record in records:
            self.take(record)

    def take(self, record: Record) -> None:
        """The next record."""
        if TRAIN_EPOCH_LOSS not in record:
            return
        steps, epochs = record["step"] + 1, record["epoch"] + 1
        if steps <= self.ends[-1][0] or epochs <= self.ends[-1][1]:
            return  # no run of ours writes this
        if len(self.ends) > 1:
            (start, before), (stop, done) = self.ends[-2:]
            if (steps - stop) * (done - before) == (epochs - done) * (stop - start):
                self.ends.pop()
        self.ends.append((steps, epochs))

    def done(self, steps: int) -> float | None:
        """How many epochs `steps` steps are; None if no epoch has ended, so that the length is unknown."""
        if len(self.ends) < 2:
            return None
        i = min(max(bisect_left(self.ends, (steps, 0)), 1), len(self.ends) - 1)
        (start, before), (stop, done) = self.ends[i - 1 : i + 1]
        return before + (steps - start) * (done - before) / (stop - start)


def band(values: Sequence[float]) -> tuple[float, float, float, int]:
    """The median over the seeds, the lowest and the highest value, and how many there are."""
    return statistics.median(values), min(values), max(values), len(values)


def newest(records: Sequence[Record], metric: str) -> float | None:
    """The last value of a metric; None where no record has one."""
    return next((record[metric] for record in reversed(records) if record.get(metric) is not None), None)
