"""The two errors that a user meets: each is one line that names the cure."""


class UsageError(Exception):
    """What was asked for makes no sense; nothing was started. Exit code 2."""


class RunError(Exception):
    """The run cannot go on: missing data, an unreadable image, too little memory. Exit code 1."""


def extra(name: str) -> str:
    """How to install what an extra of the package needs. The package is on no index."""
    return f"pip install '.[{name}]' in the checkout, or make setup"
