"""What tells two configurations apart: their leaves, the differences, a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from corridor_exp.config import secrets, targets

NOT_IDENTITY = ("out_dir", "resume", targets.SETTING)  # where a run lies, and whether changes are accepted
# Keys that older runs lack, at the value that stands for those.
NEWER = {
    "loss": "auto",
    "dataset.label_noise": 0.0,
    "dataset.held_out": None,
    "probe.corridor.hessian": True,
    "probe.until": None,
    "probe.drift.h": None,
}


def identity(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a stored configuration that decides whether two runs are the same, without secrets."""
    return _without_newer(_written(stored))


def _written(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A secret counts as null: a run stays the same run when it gets a key."""
    return _without_secrets(secrets.redact({key: value for key, value in stored.items() if key not in NOT_IDENTITY}))


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_secrets(v) for key, v in value.items()}
    return None if value == secrets.REDACTED else value


def _without_newer(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        key: _without_newer(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in tree.items()
        if (f"{prefix}{key}", value) not in NEWER.items()
    }


def fingerprint(configs: list[dict[str, Any]]) -> str:
    text = json.dumps(configs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def nodes(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of a tree, with its value or subtree."""
    for key, value in tree.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from nodes(value, f"{prefix}{key}.")


def leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys that hold a value."""
    return ((key, value) for key, value in nodes(tree) if not (isinstance(value, Mapping) and value))


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The old and the new value of every key in which two public configurations differ."""
    before, after = dict(leaves(old)), dict(leaves(new))
    keys = sorted(before.keys() | after.keys())
    values = {key: (before.get(key, "(absent)"), after.get(key, "(absent)")) for key in keys}
    return {key: (a, b) for key, (a, b) in values.items() if a != b}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The same as lines, `key: old → new`."""
    return [f"{key}: {before} → {after}" for key, (before, after) in changes(old, new).items()]


def written_keys(stored: Mapping[str, Any]) -> dict[str, str]:
    """The identity of a stored configuration, as it was written: its dotted keys, with values as text."""
    return {key: str(value) for key, value in leaves(_written(stored))}


def varied_keys(configs: Iterable[Mapping[str, str]]) -> list[str]:
    """The keys in which runs differ.

    If only some options of a group have a key (SGD a rate, and CLR none), it counts if it differs among the runs that
    have it. If only some runs of the same option have it, the others count as if it were null. A `_target_` does not
    count, because the name of the option says the same.
    """
    values: dict[str, set[str]] = {}
    having: Counter[tuple[str, str]] = Counter()  # runs by key, and by the option of its group
    for config in configs:
        for key, value in config.items():
            values.setdefault(key, set()).add(value)
            having[key, config.get(_name_of_group(key), "")] += 1
    for (key, option), count in having.items():
        if option and count < having[_name_of_group(key), option]:
            values[key].add(str(NEWER.get(key)))
    return [key for key, seen in values.items() if len(seen) > 1 and not key.endswith("_target_")]


def _name_of_group(key: str) -> str:
    return f"{key.partition('.')[0]}.name"
