"""The memory of this process. Imports nothing, so that what is measured is the command alone. Linux only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def say_peak(main: Callable[[], None]) -> None:
    """Call `main`, then print the peak of the resident set."""
    try:
        main()
    finally:
        print(peak())


def peak() -> int:
    """The peak of the resident set so far, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
