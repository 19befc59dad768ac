"""Flags of the commands: argparse, with mistakes told in one line."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from corridor_exp import __version__
from corridor_exp.config import targets
from corridor_exp.config.logs import log_to_stderr
from corridor_exp.config.mistakes import suggestion
from corridor_exp.config.secrets import clean
from corridor_exp.errors import ExitCode, RunError, UsageError, in_words


class Parser(argparse.ArgumentParser):
    """Exits with 2 after one line that names the closest flag, instead of the usage. Each command has --version."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_argument(
            "--version", action="version", version=f"corridor-exp {__version__}", help="print it and exit"
        )

    @property
    def flags(self) -> list[str]:
        """The long flags, but for those that are not for people."""
        named = [flag for action in self._actions if action.help != argparse.SUPPRESS for flag in action.option_strings]
        return sorted(flag for flag in named if flag.startswith("--"))

    def error(self, message: str) -> NoReturn:
        if unknown := re.match(r"unrecognized arguments: (.+)", message, re.DOTALL):
            word = unknown[1].split(" ")[0]
            kind = "flag" if word.startswith("-") else "argument"
            message = f"unknown {kind} {word}{suggestion(word.split('=')[0], self.flags)} (see --help)"
        self.fail(ExitCode.MISUSED, message)

    def fail(self, code: ExitCode, message: str) -> NoReturn:
        print(f"{self.prog}: {_printable(clean(message))}", file=sys.stderr)
        sys.exit(code)

    def carry_out(self, command: Callable[[argparse.Namespace], int | None], argv: list[str] | None) -> None:
        """Call the command with its arguments, but for `allow_targets`, which every command takes.

        Exits with the code that it returns, if that is not 0, with 2 after one line on what it refuses, with 1 after
        one on what has failed, and with 75 where the user has stopped it.
        """
        log_to_stderr(self.prog)
        try:
            args = self.parse_intermixed_args(targets.take(sys.argv[1:] if argv is None else argv))
            if code := command(args):
                sys.exit(code)
        except UsageError as error:
            self.error(str(error))
        except (RunError, OSError) as error:
            self.fail(ExitCode.FAILED, in_words(error))
        except KeyboardInterrupt:
            self.fail(ExitCode.STOPPED, "stopped; the same command begins again")


def _printable(text: str) -> str:
    """The text in one line of a bearable length: a control character is written as in Python."""
    if len(text) > 1200:
        text = f"{text[:600]} … {text[-500:]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
