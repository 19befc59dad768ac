"""The interface of a mirror, and the rule that a mirror never stops a run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol

from corridor_exp.runs.records import Record

log = logging.getLogger(__name__)


class Logger(Protocol):
    def start(self, directory: Path, config: dict[str, Any], name: str) -> None:
        """Begin or continue the mirror of a run; `config` holds no secret."""
        ...

    def log(self, record: Record) -> None: ...

    def finish(self, status: str) -> None: ...


class Mirrors:
    """Several mirrors as one. `records.jsonl` is complete without them, so their errors are logged and not raised."""

    def __init__(self, loggers: list[Logger]) -> None:
        self.loggers = loggers

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
                log.warning("%s failed and is dropped (%s); records.jsonl stays complete", type(logger).__name__, error)
