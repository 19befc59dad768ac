"""Corridor geometry in gradient-based optimization (Dherin & Rosca, arXiv 2402.08818).

For a training loop of one's own: `from corridor_exp import CLR, look`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corridor_exp.optim import CLR
    from corridor_exp.probes import look

__version__ = "0.1.0"
__all__ = ["CLR", "look"]


def __getattr__(name: str) -> Any:
    """CLR and look, when they are asked for: the commands check what was typed before torch is loaded."""
    if name == "CLR":
        from corridor_exp.optim import CLR

        return CLR
    if name == "look":
        from corridor_exp.probes import look

        return look
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
