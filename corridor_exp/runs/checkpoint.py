"""Checkpoints: the state of a run on disk, whole or not at all.

A file is named `step_<k>.<hash>.pt` or `best_<k>.<hash>.pt`. The hash is the SHA-256 of its content. A file whose
content has another hash is damaged: it is logged and skipped. A file is written under another name, flushed and then
renamed, so a kill at any moment leaves the file before it whole. Loading never runs code (`weights_only=True`).
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from corridor_exp.errors import RunError, UsageError, in_words
from corridor_exp.files import regular, write_atomically

log = logging.getLogger(__name__)
Kind = Literal["step", "best"]
_NAME = re.compile(r"(step|best)_(\d+)\.([0-9a-f]{16})\.pt")


class Saver:
    """Writes a run's checkpoints while the run trains on: the training loop waits only for the copy of its state.

    At most one write runs at a time, and the next save waits for it. The next call raises the error of a write.
    """

    def __init__(self, directory: Path, keep: int, before: Callable[[], None], began: int = 0) -> None:
        """`before` is called before each write, in the thread that writes. It flushes the records.

        The run goes on from step `began`, so the files of later steps are damaged or useless. They stay until there is
        a new one, and never take the place of a good one.
        """
        self.directory, self.keep, self.before = directory, keep, before
        self.useless = [file.path for file in _files(directory) if file.step > began]
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.writing: Future[object] | None = None

    def save(self, step: int, state: dict[str, Any], kind: Kind = "step") -> None:
        self.wait()
        self.writing = self.thread.submit(self._write, step, _on_host(state), kind)

    def wait(self) -> None:
        """Wait for the write that runs, and raise its error."""
        writing, self.writing = self.writing, None
        if writing:
            writing.result()

    def close(self) -> None:
        """Wait for the write that runs, and ignore its error."""
        self.thread.shutdown()

    def _write(self, step: int, state: dict[str, Any], kind: Kind) -> None:
        self.before()
        save(self.directory, step, state, self.keep if kind == "step" else 1, kind, self.useless)
        self.useless = []

    def raise_error(self) -> None:
        """Raise the error of a write that has ended. Does not wait."""
        if self.writing and self.writing.done():
            self.wait()


def save(
    directory: Path, step: int, state: dict[str, Any], keep: int, kind: Kind = "step", useless: Sequence[Path] = ()
) -> Path:
    """Write `state` as the checkpoint of `step`, then drop useless files, and all but the newest `keep` of its kind."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    path = directory / f"{kind}_{step:09d}.{_digest(content)}.pt"
    try:
        directory.mkdir(exist_ok=True)
        write_atomically(path, content)
    except (RunError, OSError) as error:
        raise RunError(f"{in_words(error)}; the checkpoints before it are intact") from error
    for place in {*useless} - {path}:
        place.unlink(missing_ok=True)
    others = [file for file in _files(directory) if file.kind == kind and file.path != path]
    # Of the same step, such as before an evaluation; or of later ones, behind which the run has gone back.
    overtaken = [file for file in others if file.step >= step]
    older = [file for file in others if file.step < step]
    for file in overtaken + older[keep - 1 :]:
        file.path.unlink()
    return path


def load_newest(directory: Path, written: float = math.inf) -> dict[str, Any] | None:
    """The newest checkpoint whose content matches its name, or None. Skipped files are logged.

    `written` is the length of the records in bytes. A checkpoint that came after more of them is skipped too, if there
    is one that did not.
    """
    for leftover in directory.glob(".*.tmp"):
        leftover.unlink()
    newest = None
    for state in load_all(directory):
        if state.get("records_bytes", 0) <= written:
            return state
        log.warning("the newest records are lost: trying a checkpoint that came before them")
        newest = newest or state
    return newest


def load_all(directory: Path) -> Iterator[dict[str, Any]]:
    """Every checkpoint whose content matches its name, the newest first. Skipped files are logged."""
    return _load(_files(directory))


def load_one(directory: Path, which: str) -> dict[str, Any]:
    """The checkpoint that `which` names: `newest`, `best`, or a step. Raises `UsageError` where there is none."""
    files = _files(directory)
    chosen = [file for file in files if which in ("newest", file.kind, str(file.step))]
    state = next(_load(chosen), None)
    if state is None:
        there = ", ".join(f"{file.step}{' (best)' if file.kind == 'best' else ''}" for file in reversed(files))
        raise UsageError(f"{directory} has no checkpoint {which!r}; there are those of the steps {there or '(none)'}")
    return state


class _File(NamedTuple):
    """A checkpoint's file, and what its name says."""

    step: int
    kind: str
    digest: str
    path: Path


def _files(directory: Path) -> list[_File]:
    """The newest first."""
    named = [(_NAME.fullmatch(path.name), path) for path in directory.glob("*.pt")]
    return sorted((_File(int(m[2]), m[1], m[3], path) for m, path in named if m), reverse=True)


def _load(files: list[_File]) -> Iterator[dict[str, Any]]:
    for file in files:
        try:
            content = regular(file.path).read_bytes()
        except OSError as error:
            log.warning("%s; trying the checkpoint before it", in_words(error))
            continue
        if _digest(content) != file.digest:
            log.warning(
                "%s is damaged (its content does not match the hash in its name); trying the one before it", file.path
            )
            continue
        try:
            yield torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise RunError(
                f"{file.path} holds more than tensors and plain values; refused, as loading it could run code"
            ) from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _on_host(value: Any) -> Any:
    """The same tree with a copy of every tensor on the host, because training goes on and changes its own."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _on_host(v) for key, v in value.items()}
    return type(value)(map(_on_host, value)) if isinstance(value, list | tuple) else value
