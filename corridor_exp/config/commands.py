"""The command line that a stored configuration comes from, or one like it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from corridor_exp.config.compose import Conf, opened, quoted
from corridor_exp.config.differences import changes, identity
from corridor_exp.config.options import our_groups
from corridor_exp.errors import UsageError

Identity = dict[str, Any]
PLAIN = re.compile(r"[A-Za-z_./][\w./-]*")  # a text that needs no quotes
WORDS = ("null", "true", "false", "nan", "inf")  # which Hydra would take for something else


def commands(stored: Iterable[Mapping[str, Any]]) -> list[str | None]:
    """For each configuration, as a run directory holds it, the command that starts such a run anew.

    None where no command line of ours gives it: it has options of one's own, or keys of another version.
    """
    with opened() as conf:
        composed = cache(lambda overrides: _composed(conf, overrides))  # many runs have the same options
        return [_command(conf, composed, tree) for tree in stored]


def _command(conf: Conf, composed: Callable[[tuple[str, ...]], Identity], stored: Mapping[str, Any]) -> str | None:
    wanted = identity(stored)
    try:
        options = tuple(_options(wanted))
        overrides = [*options, *(f"{key}={_text(new)}" for key, (_, new) in changes(composed(options), wanted).items())]
        if _composed(conf, overrides) != wanted:
            return None
    except (UsageError, LookupError, AttributeError, TypeError):
        return None
    return shlex.join(["corridor-train", *overrides])


def _composed(conf: Conf, overrides: Sequence[str]) -> Identity:
    """The identity of the run that the overrides start."""
    parsed = [conf.parse(override) for override in overrides]
    for override in parsed:
        conf.check(override)
    return identity(conf.job(parsed).public())


def _options(stored: Mapping[str, Any]) -> Iterator[str]:
    """The option of each group, by the names that it left in the configuration; of some, where it is no default."""
    for group in ("dataset", "model", "optim"):
        if stored[group].get("name") in our_groups()[group]:
            yield f"{group}={stored[group]['name']}"
    if (schedule := stored["optim"].get("schedule") or {}).get("name") not in (None, "constant"):
        yield f"optim/schedule={schedule['name']}"
    probes = [name for name, value in stored["probe"].items() if isinstance(value, Mapping)]
    if probes != ["corridor"]:
        yield f"probe=[{','.join(probes)}]" if probes else "probe=none"
    if list(stored["logger"]) != ["wandb"]:
        yield f"logger=[{','.join(stored['logger'])}]" if stored["logger"] else "logger=jsonl"


def _text(value: Any) -> str:
    """A value as Hydra reads it back."""
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) and value.lower() not in WORDS else quoted(value)
    return json.dumps(value)
