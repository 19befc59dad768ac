"""Checkpoints: the state of a run on disk, whole or not at all.

A file is named `step_<k>.<hash>.pt`, the hash being its content's SHA-256: a name that the content does not match
is a torn or damaged file, told and passed over. It is written aside, flushed and renamed, so a kill at any moment
leaves the one before it. Loading never unpickles code (`weights_only=True`).
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from corridor_exp.errors import RunError
from corridor_exp.records import write_atomically

_NAME = re.compile(r"step_(\d+)\.([0-9a-f]{16})\.pt")


def save(directory: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write `state` as the checkpoint of `step`, then drop all but the newest `keep`."""
    directory.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    path = directory / f"step_{step:09d}.{_digest(content)}.pt"
    try:
        write_atomically(path, content)
    except OSError as error:
        raise RunError(
            f"cannot write {path} ({len(content):,} bytes): {error.strerror}; the checkpoints before it are intact"
        ) from error
    same_step = [p for p in directory.glob(f"step_{step:09d}.*.pt") if p != path]  # such as before an evaluation
    for old in same_step:
        old.unlink()
    for old in _newest_first(directory)[keep:]:
        old.unlink()
    return path


def load_newest(directory: Path, tell: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest checkpoint whose content matches its name, or None. What is passed over is told."""
    for leftover in directory.glob(".*.tmp"):
        leftover.unlink()
    return next(load_all(directory, tell), None)


def load_all(directory: Path, tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Every checkpoint whose content matches its name, the newest first. What is passed over is told."""
    for path in _newest_first(directory):
        content = path.read_bytes()
        if _digest(content) != path.name.split(".")[1]:
            tell(f"{path} is damaged (its content does not match the hash in its name); trying the one before it")
            continue
        try:
            yield torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise RunError(
                f"{path} holds more than tensors and plain values; refused, as loading it could run code"
            ) from error


def _newest_first(directory: Path) -> list[Path]:
    return sorted((p for p in directory.glob("step_*.pt") if _NAME.fullmatch(p.name)), reverse=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
