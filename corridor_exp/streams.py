"""Standard output and error whose failure never ends a command."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from corridor_exp.errors import ExitCode


@contextmanager
def steady_streams() -> Iterator[None]:
    """While this is open, no write to stdout or stderr raises. If a pipe or terminal is closed, only the text is lost.

    Streams that were closed at the start (`2>&-`) are replaced, because a run's first file would get their number.
    If stdout is a file that cannot be written, for instance on a full disk, the exit code is 1.
    """
    for number in range(3):
        _open_if_closed(number)
    out, err = (_Steady(stream or _nowhere()) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, err)):
        try:
            yield
        finally:
            out.flush()
            if out.error and out.error.errno not in (errno.EPIPE, errno.EIO):
                print(f"cannot write standard output: {out.error.strerror}", file=sys.stderr)
                sys.exit(ExitCode.FAILED)
            err.flush()


def _open_if_closed(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


def _nowhere() -> TextIO:
    return open(os.devnull, "w")


class _Steady:
    """A stream that drops its text after a write has failed."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            try:
                return self.stream.write(text)
            except UnicodeEncodeError:  # an ASCII terminal, or a name that is not UTF-8
                return self.stream.write(text.encode("ascii", "backslashreplace").decode())
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.error = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())  # so that the buffered text does not fail at exit
        os.close(nowhere)
