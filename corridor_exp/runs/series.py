"""The numbers of runs over their epochs and over their seeds. Knows no torch."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Sequence

from corridor_exp.runs.records import TRAIN_EPOCH_LOSS, Record


class Epochs:
    """The epochs of a run by its steps, from the last record of each epoch.

    After a resume with another batch size epochs have another length. Each epoch keeps its own length; steps after the
    last end count by the length of the last epoch. `ends` are pairs (steps done, epochs done): the start, the ends
    after which the length is another, and the last end.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.ends = [(0, 0)]
        for record in records:
            if TRAIN_EPOCH_LOSS in record:
                self._append(record["step"] + 1, record["epoch"] + 1)

    def _append(self, steps: int, epochs: int) -> None:
        if steps <= self.ends[-1][0] or epochs <= self.ends[-1][1]:
            return  # of a file that no run of ours has written
        if len(self.ends) > 1:
            (start, before), (stop, done) = self.ends[-2:]
            if (steps - stop) * (done - before) == (epochs - done) * (stop - start):
                self.ends.pop()
        self.ends.append((steps, epochs))

    @property
    def steps_per_epoch(self) -> float | None:
        """The length of the last epoch that has ended; None where none has."""
        if len(self.ends) < 2:
            return None
        (start, before), (stop, done) = self.ends[-2:]
        return (stop - start) / (done - before)

    def done(self, steps: int) -> float | None:
        """The epochs that `steps` steps make; None where no epoch has ended, so that its length is not known."""
        if len(self.ends) < 2:
            return None
        i = min(max(bisect_left(self.ends, (steps, 0)), 1), len(self.ends) - 1)
        (start, before), (stop, done) = self.ends[i - 1 : i + 1]
        return before + (steps - start) * (done - before) / (stop - start)

    def steps_of(self, epochs: int) -> float | None:
        """The steps after which `epochs` epochs will have ended; None where the length of an epoch is not known."""
        steps, done = self.ends[-1]
        return None if self.steps_per_epoch is None else steps + (epochs - done) * self.steps_per_epoch


def band(values: Sequence[float]) -> tuple[float, float, float, int]:
    """The median over the seeds, the lowest and the highest value, and how many there are."""
    return statistics.median(values), min(values), max(values), len(values)


def newest(records: Sequence[Record], metric: str) -> float | None:
    """The last value of a metric; None where no record has one."""
    return next((record[metric] for record in reversed(records) if record.get(metric) is not None), None)
