"""What an evaluation of a batch costs, by operation count. The unit is one forward pass, so that counts are whole.

A layer y = Wx multiplies matrices once in the forward pass. Its gradient needs two further products, Wᵀȳ and ȳxᵀ. Each
of these three is differentiated by two further products. So E, g and a Hessian product cost 3 + 6 products together.
"""

from __future__ import annotations

from typing import Final

FORWARD: Final = 1  # E
GRADIENT: Final = 3  # E and g
HESSIAN_PRODUCT: Final = 9  # E, g and Hv by double backward


def in_gradients(passes: int) -> float:
    """So many forward passes in units of a gradient."""
    return passes / GRADIENT
