"""How a command ends: its exit codes, and the two errors that a user meets, each one line that names the cure."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Under a sweep the worst of its runs decides; a signal ends the sweep as it ends a run."""

    DONE = 0
    FAILED = 1  # or diverged, or something could not be read or written
    MISUSED = 2  # nothing was started
    STOPPED = 75  # by a signal, after saving; the same command goes on


class _OneLineError(Exception):
    """A message that any console and file takes: a file's name may hold a line break, or bytes that are no text."""

    def __init__(self, message: str) -> None:
        printable = message.encode(errors="backslashreplace").decode()
        super().__init__("\\n".join(printable.splitlines()))


class UsageError(_OneLineError):
    """What was asked for makes no sense; nothing was started. Exit code 2."""


class RunError(_OneLineError):
    """The run cannot go on: missing data, an unreadable image, too little memory. Exit code 1."""


def in_words(error: Exception) -> str:
    """What went wrong, in one line; of an error of the system, the file and the reason."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def extra(name: str) -> str:
    """How to install what an extra of the package needs. The package is on no index."""
    return f"pip install '.[{name}]' in the checkout, or make setup"
