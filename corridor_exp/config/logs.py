"""The log messages of the package, as lines of a command on stderr."""

from __future__ import annotations

import logging
import sys

from corridor_exp.config import secrets


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return secrets.clean(super().format(record))


class _Stderr(logging.Handler):
    """Writes to the stderr of the moment, because it may have been redirected since the start."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def log_to_stderr(command: str) -> None:
    """From now on, show every message of the package as `command: message`, without secrets."""
    handler = _Stderr()
    handler.setFormatter(_Line(f"{command}: %(message)s"))
    for name in ("corridor_exp", "__main__"):  # the second one is the command's module under `python -m`
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
