"""Tab completion by Hydra's own plugins. They are internal to Hydra, whose version is pinned."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from functools import partial
from io import StringIO

from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.core_plugins.fish_completion import FishCompletion

from corridor_exp.config.compose import ERRORS, opened
from corridor_exp.config.options import SWEEP_GROUPS
from corridor_exp.errors import UsageError

SHELLS = {"bash": BashCompletion, "zsh": BashCompletion, "fish": FishCompletion}  # zsh reads what bash does


def complete(arguments: Sequence[str]) -> None:
    """`--shell-completion install|uninstall=SHELL` prints what to evaluate; that calls `query=SHELL` at each tab."""
    action, _, shell = arguments[0].partition("=") if len(arguments) == 1 else ("", "", "")
    asked_by_shell = action != "query" or "COMP_LINE" in os.environ
    if action not in ("install", "uninstall", "query") or shell not in SHELLS or not asked_by_shell:
        raise UsageError("--shell-completion needs install=bash|zsh|fish, or uninstall= with one of them")
    with opened() as conf:
        plugin = SHELLS[shell](conf.loader)
        if action == "query":
            plugin._query = partial(_words, plugin._query)
            plugin.query("config")
        else:
            getattr(plugin, action)()


def _words(ask: Callable[[str, str], list[str]], config_name: str, line: str) -> list[str]:
    """The words that Hydra offers and corridor-train takes; none after a line that cannot be read."""
    with suppress(SystemExit, *ERRORS), redirect_stderr(StringIO()):
        words = ask(config_name, line.replace("--estimate", ""))
        return [word for word in words if not word.lstrip("+~").startswith(("hydra", *SWEEP_GROUPS))]
    return []
