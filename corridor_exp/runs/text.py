"""Numbers and tables as text, as every command prints them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def shown(value: Any) -> str:
    """A value in a table: four digits of a number with a fraction, and – where there is none."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def rounded(value: float, digits: int) -> float:
    """The value with so many significant digits."""
    return float(f"{value:.{digits}g}")


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """The lines in columns; a line may be shorter than the first."""
    filled = [[*line, *[""] * (len(lines[0]) - len(line))] for line in lines]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in filled)
