"""Flags of the small commands: argparse, with mistakes told in one line."""

from __future__ import annotations

import argparse
import re
import sys
from typing import NoReturn

from corridor_exp.config import suggestion
from corridor_exp.secrets import clean


class Parser(argparse.ArgumentParser):
    """Exits with 2 after one line that names the closest flag, instead of the usage."""

    def error(self, message: str) -> NoReturn:
        if unknown := re.match(r"unrecognized arguments: (\S+)", message):
            flags = re.findall(r"--[a-z-]+", self.format_usage())
            message = f"unknown argument {unknown[1]}{suggestion(unknown[1], flags)} (see --help)"
        print(f"{self.prog}: {clean(message)}", file=sys.stderr)
        sys.exit(2)
