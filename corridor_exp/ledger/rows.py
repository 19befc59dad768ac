"""A row of the ledger, and how a function that computes an error becomes one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Row:
    """`holds` is the verdict on the claim; a `misprint` is a claim as printed, which is expected not to hold."""

    statement: str
    claim: str
    error: float
    holds: bool
    misprint: bool = False

    @property
    def red(self) -> bool:
        """Whether the verdict is not the expected one."""
        return self.holds == self.misprint


@dataclass(frozen=True)
class Check:
    """A row that is still to be computed: its claim is that above < measure() ≤ at_most."""

    statement: str
    claim: str
    measure: Callable[[], Tensor | float]
    at_most: float
    above: float
    misprint: bool

    @property
    def name(self) -> str:
        return self.measure.__name__

    def row(self) -> Row:
        """The verdict. Where `measure` raises, or returns no finite number, the row is red, be it a misprint or not."""
        try:
            error = float(self.measure())
        except Exception as failure:
            reason = " ".join(f"{type(failure).__name__}: {failure}".split())
            return Row(self.statement, f"{self.claim}: raised {reason}", math.nan, holds=False)
        if not math.isfinite(error):
            return Row(self.statement, f"{self.claim}: not finite", error, holds=False)
        return Row(self.statement, self.claim, error, self.above < error <= self.at_most, self.misprint)


def claim(
    statement: str, words: str, *, at_most: float = math.inf, above: float = -math.inf, misprint: bool = False
) -> Callable[[Callable[[], Tensor | float]], Check]:
    """Makes a `Check` of the function below it, which returns the error that the claim bounds."""
    bound = f"≤ {at_most:g}" if at_most < math.inf else f"> {above:g}"
    return lambda measure: Check(statement, f"{words} ({bound})", measure, at_most, above, misprint)
