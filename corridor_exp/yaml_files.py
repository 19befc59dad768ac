"""YAML files: safe reading and writing. A module of its own, so that probes need no YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from corridor_exp.errors import in_words
from corridor_exp.files import UnreadableError, regular

LARGEST, MOST_NODES, DEEPEST = 1_000_000, 100_000, 50  # bytes, values and levels of a YAML file
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class TooLargeError(ValueError):
    """YAML that no reader could finish."""


def load_yaml(path: Path) -> dict[str, Any]:
    """The keys and values in a YAML file. Raises `UnreadableError` if it holds anything else."""
    try:
        value = parse_yaml(_text(path))
    except TooLargeError as error:
        raise UnreadableError(f"{path} {error}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UnreadableError(f"{path} is not YAML: {in_words(error)}") from None
    if not isinstance(value, dict):
        raise UnreadableError(f"{path} holds no keys with values")
    return value


def parse_yaml(text: bytes) -> Any:
    """The value of a text of YAML. Raises `TooLargeError`, or what the library raises."""
    _refuse_bomb(text)
    return yaml.load(text, Loader=LOADER)


def refuse_bombs(folder: Path) -> None:
    """Raise `UnreadableError` for a YAML file in a folder that Hydra would need too long to read."""
    for path in sorted(folder.rglob("*.yaml")):
        try:
            _refuse_bomb(_text(path))
        except TooLargeError as error:
            raise UnreadableError(f"{path} {error}") from None
        except yaml.YAMLError:
            continue  # Hydra reports this if the file is chosen


def _text(path: Path) -> bytes:
    with open(regular(path), "rb") as file:
        return file.read(LARGEST + 1)


def _refuse_bomb(text: bytes) -> None:
    """Raise `TooLargeError` for aliases of aliases, which would fill the memory, and for a tree that is too deep."""
    if len(text) > LARGEST:
        raise TooLargeError(f"is too large for a configuration: more than {LARGEST:,} bytes")
    sizes: dict[str, int] = {}  # the expanded size of each anchor
    stack: list[tuple[str | None, int]] = []  # open collections, and the number of nodes before each
    nodes = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.AliasEvent):
            nodes += sizes.get(str(event.anchor), MOST_NODES + 1)  # an open anchor contains itself
        elif isinstance(event, yaml.CollectionStartEvent):
            stack.append((event.anchor, nodes))
            nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = stack.pop()
            if anchor:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor:
                sizes[event.anchor] = 1
        if nodes > MOST_NODES or len(stack) > DEEPEST:
            raise TooLargeError("is too large once its aliases are expanded, or too deep")


def to_yaml(tree: dict[str, Any]) -> str:
    return yaml.dump(tree, Dumper=DUMPER, sort_keys=False, allow_unicode=True)
