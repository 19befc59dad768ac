"""The paper's statements, one row each: what was computed, the error found, and whether it holds.

A row that holds compares two ways to the same thing. One of them is a function of `theory`, or an optimizer where the
statement is about one. Only the counter-example to the converse of Theorem 3.1 is by hand. So an error planted in a
formula there turns a row red: the tests plant them. No row can see an error in a default argument, in our own
numbers for Fig. 1, in the length of the next step that `gradient_flow` tries, or in the memory layouts that
`theory.vectors` handles.
An exception is an error like any other: its row is red and names it, and the other rows are checked all the same.

Rows "as printed" are the paper's slips, which must not hold. The sections come in the paper's order, and after them
the rows on measures of ours. All in float64.
"""

from __future__ import annotations

from corridor_exp.ledger import contraction, corridors, descent, measures, methods, quadratics, steps
from corridor_exp.ledger.rows import Check, Row

__all__ = ["CHECKS", "Check", "Row"]

SECTIONS = (corridors, descent, steps, methods, quadratics, measures, contraction)
CHECKS = [check for section in SECTIONS for check in vars(section).values() if isinstance(check, Check)]
