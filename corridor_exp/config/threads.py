"""The number of CPU threads of a run. It changes the rounding of results, so it is part of the configuration."""

from __future__ import annotations

import os

from corridor_exp.launcher import cores

MOST_THREADS = 1024


def available_threads() -> int:
    """The cores, or OMP_NUM_THREADS if the user has set it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and 0 < int(asked) <= MOST_THREADS else cores()
