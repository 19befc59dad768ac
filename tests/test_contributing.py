"""CONTRIBUTING.md is true: the paths that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_path_that_it_names_is_there() -> None:
    paths = {path for path in re.findall(r"`([\w.]+/[\w./]*)`", PAGE) if "NAME" not in path}
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).exists() and not (ROOT / "corridor_exp" / path).exists()]
    rooms = {file.parent.name for file in (ROOT / "corridor_exp").glob("*/__init__.py")}
    assert not [room for room in rooms if f"`{room}/`" not in PAGE]
