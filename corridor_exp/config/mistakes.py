"""Messages about wrong keys and values: one line, with the closest valid word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from pydantic import ValidationError

from corridor_exp.config import secrets
from corridor_exp.config.differences import nodes


def suggestion(word: str, known: Iterable[str], parent: str = "", cutoff: float = 0.6) -> str:
    """`; did you mean 'clr'?`, or nothing if no known word is close. Keys are compared without `parent`."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=cutoff)
    return f"; did you mean '{parent}{close[0]}'?" if close else ""


def first_problem(error: ValidationError, known: Mapping[str, Any]) -> str:
    """One line about the first mistake. `known` is a tree of valid keys."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"] if part not in ("bool", "int", "str", "literal['auto']"))
    if problem["type"] == "extra_forbidden":
        return unknown_key(key, known)
    if problem["type"] == "missing":
        return f"{key} is required: it can be neither deleted nor left out"
    reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    value = problem["input"]
    group, _, name = key.rpartition(".")
    if group and isinstance(value, list | dict):
        return f"{key}: {reason}; {name} means the same in all options of {group}: call a key of your own otherwise"
    shown = f"={secrets.redact(value, key)}" if isinstance(value, str | int | float) else ""
    meant = closest_key(key, known) if problem["type"] == "model_type" else ""  # a value where a whole option belongs
    return f"{key}{shown}: {reason}{meant}"


def unknown_key(key: str, known: Mapping[str, Any]) -> str:
    """One line about an unknown key, with the closest key of the tree `known`."""
    if _is_tree(optim := known.get("optim")) and (key == "optim.lr" or (key == "lr" and "lr" not in optim)):
        computes = f"optim={optim.get('name')} computes its step"
        return f"unknown key {key!r}: {computes}; optim=sgd has a learning rate, optim.lr"
    value = next((path for path, node in nodes(known) if key.startswith(f"{path}.") and not _is_tree(node)), None)
    if value:
        return f"unknown key {key!r}: {value} is a value, and has no keys"
    elsewhere = [path for path, _ in nodes(known) if path.endswith(f".{key.rpartition('.')[2]}") and path != key]
    return f"unknown key {key!r}{closest_key(key, known) or suggestion(key, elsewhere, cutoff=0)}"


def closest_key(key: str, known: Mapping[str, Any]) -> str:
    """The suggestion of a valid key at the place where `key` leaves the tree."""
    node, parent, name = known, "", key
    while "." in name and _is_tree(node.get(name.partition(".")[0])):
        first, _, name = name.partition(".")
        node, parent = node[first], f"{parent}{first}."
    name, _, rest = name.partition(".")
    siblings = [str(sibling) for sibling in node if sibling != name]
    with_rest = [path for path, _ in nodes(node) if rest and path.partition(".")[2] == rest]
    return suggestion(f"{name}.{rest}", with_rest, parent) or suggestion(name, siblings, parent)


def _is_tree(node: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(node, Mapping)
