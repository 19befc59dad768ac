"""How well one number predicts one of two classes: AUC, a threshold, balanced accuracy, intervals over clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SAMPLES = 2000
INFINITE = 1e300  # stands for infinity, so that a mean of two values exists


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rule:
    """`sign` · value ≥ `sign` · `threshold` means yes. Sign −1: low values mean yes."""

    sign: int
    threshold: float

    @classmethod
    def fit(cls, values: Sequence[float], yes: Sequence[bool]) -> Rule:
        """The sign by the AUC, and the threshold with the highest balanced accuracy. Of equals, the middle one."""
        x, y = _finite(values), np.asarray(yes, dtype=bool)
        sign = -1 if _auc(-x, y, np.ones((1, len(x))))[0] >= 0.5 else 1
        levels = np.unique(x)
        middles = (levels[1:] + levels[:-1]) / 2
        if not len(middles):
            return cls(sign, float(levels[0]))
        accuracy = np.array([_accuracy(sign * x >= sign * t, y, np.ones((1, len(x))))[0] for t in middles])
        best = middles[accuracy >= accuracy.max() - 1e-12]
        return cls(sign, float(best[(len(best) - 1) // 2]))

    def auc(self, values: Sequence[float], yes: Sequence[bool], weights: np.ndarray) -> np.ndarray:
        """The AUC for each row of weights of the cases, S × N."""
        return _auc(self.sign * _finite(values), np.asarray(yes, dtype=bool), weights)

    def accuracy(self, values: Sequence[float], yes: Sequence[bool], weights: np.ndarray) -> np.ndarray:
        """The balanced accuracy for each row of weights."""
        said = self.sign * _finite(values) >= self.sign * self.threshold
        return _accuracy(said, np.asarray(yes, dtype=bool), weights)


def resampled(clusters: Sequence[str], yes: Sequence[bool], samples: int = SAMPLES) -> np.ndarray:
    """How often each case is in each bootstrap sample of whole clusters, S × N. Every sample has both classes.

    The first row is the data themselves.
    """
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    y, generator = np.asarray(yes, dtype=bool), np.random.default_rng(0)
    rows = [np.ones((1, len(y)))]
    while sum(map(len, rows)) <= samples:
        drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=samples)[:, member]
        rows.append(drawn[(drawn[:, y].sum(1) > 0) & (drawn[:, ~y].sum(1) > 0)])
    return np.concatenate(rows)[: samples + 1]


def estimate(values: np.ndarray) -> Estimate:
    """From a statistic of the data, which is the first value, and of the bootstrap samples."""
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return Estimate(float(values[0]), float(low), float(high))


def _finite(values: Sequence[float]) -> np.ndarray:
    return np.nan_to_num(np.asarray(values, dtype=np.float64), nan=INFINITE, posinf=INFINITE)


def _auc(x: np.ndarray, yes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The share of pairs of a yes and a no in which the yes has the larger x. Equal values count half."""
    high, low = x[yes][:, None], x[~yes][None, :]
    wins = (high > low) + 0.5 * (high == low)
    with np.errstate(invalid="ignore"):  # a sample may have lost a class with the cases that lack this value
        share = np.einsum("si,ij,sj->s", weights[:, yes], wins, weights[:, ~yes], optimize=True)
        result: np.ndarray = share / (weights[:, yes].sum(1) * weights[:, ~yes].sum(1))
    return result


def _accuracy(said: np.ndarray, yes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    right = weights * (said == yes)
    with np.errstate(invalid="ignore"):
        result: np.ndarray = sum(right[:, y].sum(1) / weights[:, y].sum(1) for y in (yes, ~yes)) / 2
    return result
