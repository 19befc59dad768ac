"""What `corridor-figures` has left beside runs: pictures and claims, for the page."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corridor_exp.runs.text import shown


@dataclass(frozen=True)
class Picture:
    """A PNG of `corridor-figures`, and the caption that lies beside it as text."""

    path: Path
    caption: str

    @property
    def uri(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.path.read_bytes()).decode()}"


def find_figures(folder: Path) -> Iterator[Picture]:
    """The PNGs of a folder that have a caption, a text of the same name; `fig2` before `fig10`."""
    for path in sorted(folder.glob("*.png"), key=lambda path: (len(path.stem), path.stem)):
        caption = path.with_suffix(".txt")
        if path.is_file() and caption.is_file():
            yield Picture(path, caption.read_text(encoding="utf-8", errors="replace").strip())


def read_claims(folder: Path) -> list[dict[str, str]] | None:
    """The rows of `claims.json`, each value as text; None where there is no such file or it holds something else."""
    try:
        claims = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
        return [
            {key: _as_text(claim.get(key)) for key in ("figure", "statement", "statistic", "verdict", "values")}
            for claim in claims
        ]
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_as_text(v)}" for key, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_as_text, value))
    return shown(value)
