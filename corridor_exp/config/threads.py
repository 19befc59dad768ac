"""The number of CPU threads of a run. It changes the rounding of results, so it is part of the configuration."""

from __future__ import annotations

import os

MOST_THREADS = 1024


def available_threads() -> int:
    """The cores that this process may use, or OMP_NUM_THREADS if the user has set it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and 0 < int(asked) <= MOST_THREADS:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
