"""Standard output and error that never end what writes to them. Knows no torch."""

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
    """While this is open, no write to stdout or stderr raises: a closed pipe or terminal costs the text alone.

    Streams that were closed from the start (`2>&-`) lead nowhere; else a run's first file would take their number.
    Where stdout is a file that could not be written, say on a full disk, this ends in exit code 1.
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
        os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _nowhere() -> TextIO:
    return open(os.devnull, "w")


class _Steady:
    """A stream that leads nowhere once it could not be written."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except UnicodeEncodeError:  # a terminal that knows ASCII alone; a name that is no UTF-8
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
        os.dup2(nowhere, self.stream.fileno())  # what is buffered goes there too, and not to the interpreter's end
        os.close(nowhere)
