"""Tab completion by Hydra's own plugins. They are internal to Hydra, whose version is pinned.

Hydra knows the keys and options of a run. The flags of our commands, and the keys of a sweep, are added here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from functools import partial
from io import StringIO
from typing import Any

from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.core_plugins.fish_completion import FishCompletion

from corridor_exp.config.compose import ERRORS, opened
from corridor_exp.config.options import CONF_DIR, SWEEP_GROUPS, our_groups
from corridor_exp.config.settings import SCALES_OF_FIGURES, UNION, Settings, Slurm, is_of_a_sweep
from corridor_exp.errors import UsageError

COMMANDS = ("corridor-train", "corridor-sweep")


class _Bash(BashCompletion):  # type: ignore[misc]
    @staticmethod
    def _get_exec() -> str:
        return " ".join(COMMANDS)


class _Fish(FishCompletion):  # type: ignore[misc]
    @staticmethod
    def _get_exec() -> list[tuple[str, str]]:
        return [(command, "") for command in COMMANDS]

    @staticmethod
    def _get_uninstall_exec() -> str:
        return " -c ".join(COMMANDS)


SHELLS: dict[str, Any] = {"bash": _Bash, "zsh": _Bash, "fish": _Fish}  # zsh reads what bash does


@dataclass(frozen=True)
class Completion:
    """What a command offers at a tab: its `flags`, and the keys of a sweep where it has them."""

    flags: Sequence[str]
    of_sweep: bool = False

    def carry_out(self, arguments: Sequence[str]) -> None:
        """`install|uninstall=SHELL` prints what to evaluate; that calls `query=SHELL` at each tab."""
        action, _, shell = arguments[0].partition("=") if len(arguments) == 1 else ("", "", "")
        asked_by_shell = action != "query" or "COMP_LINE" in os.environ
        if action not in ("install", "uninstall", "query") or shell not in SHELLS or not asked_by_shell:
            raise UsageError("--shell-completion needs install=bash|zsh|fish, or uninstall= with one of them")
        with opened() as conf:
            plugin = SHELLS[shell](conf.loader)
            if action == "query":
                ask = plugin._query
                plugin._query = lambda config_name, line: self.words(line, partial(ask, config_name))
                plugin.query("config")
            else:
                getattr(plugin, action)()

    def words(self, line: str, of_a_run: Callable[[str], list[str]]) -> list[str]:
        """What may follow `line`, a command line without its command; `of_a_run` is what Hydra offers."""
        *before, word = line.split(" ")
        if word.startswith("-"):
            return [flag for flag in self.flags if flag.startswith(word)]
        several = self.of_sweep or not {"-m", "--multirun"}.isdisjoint(before)
        known = _keys_of_a_sweep(word) if several else []
        ours = [w for w in known if w.startswith(word) and (self.of_sweep or not _names_a_group(w))]
        readable = [w for w in before if w == "--config-dir" or not (w.startswith("--") or w == UNION or _is_ours(w))]
        with suppress(SystemExit, *ERRORS), redirect_stderr(StringIO()):
            theirs = [f"{w}=" if w in our_groups() else w for w in of_a_run(" ".join([*readable, word]))]
            ours += [w for w in theirs if not (_names_a_group(w) or w.lstrip("+~").startswith("hydra"))]
        return sorted(ours)


def _is_ours(word: str) -> bool:
    return is_of_a_sweep(word) or _names_a_group(word)


def _names_a_group(word: str) -> bool:
    return word.lstrip("+~").partition("=")[0] in SWEEP_GROUPS


def _keys_of_a_sweep(word: str) -> list[str]:
    """The keys that a sweep has beside those of its runs, or the values of the one that `word` names."""
    key, has_value, _ = word.partition("=")
    if has_value and key in SWEEP_GROUPS:
        files = {file.stem for file in CONF_DIR.glob(f"{key}/*.yaml")}
        return [f"{key}={name}" for name in files.union(SCALES_OF_FIGURES if key == "scale" else ())]
    if has_value:
        return ["executor=local", "executor=slurm"] if key == "executor" else []
    if key.startswith("slurm."):
        return [f"slurm.{name}=" for name in Slurm.model_fields]
    return [f"{name}." if name == "slurm" else f"{name}=" for name in Settings.model_fields if name != "out_dir"]
