"""How a command says what its library logs."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from corridor_exp.config import secrets


class _Formatter(logging.Formatter):
    def __init__(self, command: str) -> None:
        super().__init__(f"{command}: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return secrets.clean(super().format(record))


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to standard error as it is at that moment, and flushes."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def log_to_stderr(command: str) -> None:
    """From now on what the package logs is a line `command: message` of standard error, without secrets."""
    handler = _ToStderr()
    handler.setFormatter(_Formatter(command))
    logger = logging.getLogger("corridor_exp")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
