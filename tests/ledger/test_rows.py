from __future__ import annotations

import math

import pytest
import torch

from corridor_exp import ledger
from corridor_exp.ledger.examples import largest
from corridor_exp.ledger.rows import claim

MISPRINTS = [
    "Example 2.2",
    "Example 2.7",
    "Lemma 2.9",
    "Theorem 3.1 ⇐",
    "§4.1",
    "Eq. 11",
    "Eq. 12",
    "Eq. 18",
    "Appendix C",
]


def test_every_statement_holds_and_every_misprint_fails_in_the_papers_order() -> None:
    rows = [check.row() for check in ledger.CHECKS]
    assert [row for row in rows if row.red] == []
    assert [row.statement for row in rows if row.misprint] == MISPRINTS
    assert all(math.isfinite(row.error) for row in rows)


def test_names_of_rows_are_unique() -> None:
    names = [check.name for check in ledger.CHECKS]
    assert len(set(names)) == len(names)


def fail() -> float:
    raise ValueError("no\nsuch thing")


@pytest.mark.parametrize(
    ("measure", "misprint", "holds", "red"),
    [
        (lambda: 0.05, False, True, False),
        (lambda: torch.tensor(0.2), False, False, True),
        (lambda: 0.2, True, False, False),
        (lambda: 0.05, True, True, True),
        (lambda: math.nan, False, False, True),
        (lambda: math.inf, True, False, True),
        (fail, False, False, True),
        (fail, True, False, True),
    ],
)
def test_a_row_is_red_unless_it_is_as_expected(measure, misprint: bool, holds: bool, red: bool) -> None:
    row = claim("X", "1 = 2", at_most=0.1, misprint=misprint)(measure).row()
    assert (row.holds, row.red) == (holds, red)
    if measure is fail:
        assert row.claim == "1 = 2 (≤ 0.1): raised ValueError: no such thing"


def test_a_claim_may_bound_from_below() -> None:
    assert claim("X", "far", above=0.4)(lambda: 0.5).row() == ledger.Row("X", "far (> 0.4)", 0.5, holds=True)
    assert claim("X", "far", above=0.4)(lambda: 0.4).row().red


def test_a_nan_among_numbers_is_the_largest() -> None:
    assert largest(torch.tensor([1.0, math.nan, -2.0])) == math.inf
