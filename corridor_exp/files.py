"""Files: safe reading of files from strangers, JSON, and atomic writing."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from corridor_exp.errors import RunError, UsageError

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a folder: one component, and never `..`
ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://")  # how the address of another machine begins, `https://host/folder`


class UnreadableError(UsageError, OSError):
    """A file of the wrong kind. The message is one line that names it."""


def regular(path: Path) -> Path:
    """The same path. Raises `UnreadableError` for a pipe, a device or a socket, which could block forever."""
    if path.exists() and not path.is_file():
        raise UnreadableError(f"{path} is not a regular file")
    return path


# ---------------------------------------------------------------------------- writing


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

    Raises `RunError` if this fails; then the old file is unchanged.
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
            temporary.unlink()  # half a file on a full disk
        raise RunError(f"cannot write {path} ({len(content):,} bytes): {error.strerror}") from error
