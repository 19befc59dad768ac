"""The two errors that a user meets: each is one line that names the cure."""


class UsageError(Exception):
    """What was asked for makes no sense; nothing was started. Exit code 2."""


class RunError(Exception):
    """The run cannot go on: missing data, an unreadable image, too little memory. Exit code 1."""


def in_words(error: Exception) -> str:
    """What went wrong, in one line; of an error of the system, the file and the reason."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
