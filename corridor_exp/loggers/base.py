"""The interface of a mirror, and the rule that a mirror never stops a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from corridor_exp.runs.records import Record


class Logger(Protocol):
    def start(self, directory: Path, config: dict[str, Any], name: str) -> None:
        """Begin or continue the mirror of a run; `config` holds no secret."""
        ...

    def log(self, record: Record) -> None: ...

    def finish(self, status: str) -> None: ...


class Mirrors:
    """Several mirrors as one. `records.jsonl` is complete without them, so their errors are logged and not raised."""

    def __init__(self, loggers: list[Logger], tell: Callable[[str], None]) -> None:
        self.loggers, self.tell = loggers, tell

    def start(self, directory: Path, config: dict[str, Any], name: str) -> None:
        self._each("start", directory, config, name)

    def log(self, record: Record) -> None:
        self._each("log", record)

    def finish(self, status: str) -> None:
        self._each("finish", status)

    def _each(self, method: str, *args: Any) -> None:
        for logger in list(self.loggers):
            try:
                getattr(logger, method)(*args)
            except Exception as error:
                self.loggers.remove(logger)
                self.tell(f"{type(logger).__name__} failed and is dropped ({error}); records.jsonl stays complete")
