"""Files: which may be read, whoever has written them; YAML and JSON; writing whole or not at all."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from corridor_exp.errors import RunError, UsageError

LARGEST, MOST_NODES, DEEPEST = 1_000_000, 100_000, 50  # bytes, values and levels of a YAML file
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a folder: one component, and never `..`


class UnreadableError(UsageError, OSError):
    """A file that is not what it has to be. One line that names it."""


class TooLargeError(ValueError):
    """YAML that no reader could finish."""


def regular(path: Path) -> Path:
    """The same path. Raises `UnreadableError` for a pipe, a device or a socket, which would be waited for for ever."""
    if path.exists() and not path.is_file():
        raise UnreadableError(f"{path} is not a regular file")
    return path


def load_yaml(path: Path) -> dict[str, Any]:
    """The keys and values in a YAML file. Raises `UnreadableError` where it holds anything else."""
    try:
        value = parse_yaml(_text(path))
    except TooLargeError as error:
        raise UnreadableError(f"{path} {error}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UnreadableError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise UnreadableError(f"{path} holds no keys with values")
    return value


def parse_yaml(text: bytes) -> Any:
    """The value of a text of YAML. Raises `TooLargeError`, or what the library raises."""
    _refuse_bomb(text)
    return yaml.load(text, Loader=LOADER)


def refuse_bombs(folder: Path) -> None:
    """Raise `UnreadableError` for a YAML file of a folder that Hydra could not read in reasonable time."""
    for path in sorted(folder.rglob("*.yaml")):
        try:
            _refuse_bomb(_text(path))
        except TooLargeError as error:
            raise UnreadableError(f"{path} {error}") from None
        except yaml.YAMLError:
            continue  # Hydra tells that of a file which is chosen


def _text(path: Path) -> bytes:
    with open(regular(path), "rb") as file:
        return file.read(LARGEST + 1)


def _refuse_bomb(text: bytes) -> None:
    """Raise `TooLargeError` for aliases of aliases, whose values would fill the memory, and for too deep a tree."""
    if len(text) > LARGEST:
        raise TooLargeError(f"is too large for a configuration: more than {LARGEST:,} bytes")
    sizes: dict[str, int] = {}  # of what an alias stands for, itself expanded
    stack: list[tuple[str | None, int]] = []  # the open collections, and the nodes before them
    nodes = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.AliasEvent):
            nodes += sizes.get(str(event.anchor), MOST_NODES + 1)  # one that is still open holds itself
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


# ---------------------------------------------------------------------------- writing


def to_yaml(tree: dict[str, Any]) -> str:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def to_json(value: Any, indent: int | None = None) -> str:
    """Standard JSON: a non-finite number becomes the string "nan", "inf" or "-inf"."""
    return json.dumps(_spelled(value), allow_nan=False, ensure_ascii=False, indent=indent)


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _spelled(v) for key, v in value.items()}
    return [_spelled(v) for v in value] if isinstance(value, list | tuple) else value


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON. Raises as `write_atomically`."""
    write_atomically(path, f"{to_json(value, indent=2)}\n".encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write, flush to the disk, rename: a reader sees the old file or the new one, never half of it.

    Raises `RunError` where that cannot be done; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()  # on a full disk half a file is in everyone's way
        raise RunError(f"cannot write {path} ({len(content):,} bytes): {error.strerror}") from error
