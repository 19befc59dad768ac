"""The version of the code that runs."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git_commit() -> str | None:
    """The commit of the code that runs, with `+changes` if files differ from it; None for an installed package."""
    home = Path(__file__).parent
    try:
        tracked = subprocess.run(["git", "ls-files", "--error-unmatch", __file__], cwd=home, capture_output=True)
        if tracked.returncode:
            return None
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"],
            cwd=home, capture_output=True, text=True,
        )  # fmt: skip
        return described.stdout.strip() or None
    except OSError:
        return None
