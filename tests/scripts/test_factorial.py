"""`scripts/factorial.py`: the analysis of variance of a balanced factorial, against least squares."""

from __future__ import annotations

import runpy
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

shares = runpy.run_path(str(Path(__file__).parents[2] / "scripts/factorial.py"))["shares"]


def by_least_squares(y: np.ndarray, factors: int) -> dict[tuple[int, ...], float]:
    """The fall of the residual when the interaction of `subset` is added to the model of all its subsets."""

    def residual(subsets: list[tuple[int, ...]]) -> float:
        columns = [np.ones(y.size)]
        for subset in subsets:
            level = np.ravel_multi_index([np.indices(y.shape)[a] for a in subset], [y.shape[a] for a in subset]).ravel()
            columns += [level == number for number in range(level.max() + 1)]
        design = np.array(columns, dtype=float).T
        return float(np.square(y.ravel() - design @ np.linalg.lstsq(design, y.ravel())[0]).sum())

    all_subsets = [s for order in range(1, factors + 1) for s in combinations(range(factors), order)]
    return {
        subset: (
            residual([s for s in all_subsets if set(s) < set(subset)])
            - residual([s for s in all_subsets if set(s) <= set(subset)])
        )
        / residual([])
        for subset in all_subsets
    }


def test_the_shares_are_those_of_least_squares_and_add_up_to_one() -> None:
    y = np.random.default_rng(0).normal(size=(3, 2, 2, 4))
    found = shares(y, 3)
    assert found == pytest.approx(by_least_squares(y, 3))
    within = np.square(y - y.mean(3, keepdims=True)).sum() / np.square(y - y.mean()).sum()
    assert sum(found.values()) + within == pytest.approx(1)


def test_one_factor_that_decides_alone_explains_all() -> None:
    y = np.zeros((3, 2, 2, 2)) + np.array([1.0, 2.0, 4.0])[:, None, None, None]
    assert shares(y, 3)[(0,)] == pytest.approx(1)
