"""Arrays that take long to make and are kept in the user's cache, under a name that says what they were made of."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

Arrays = dict[str, np.ndarray]


def kept(make: Callable[[], Arrays], what: str, files: Iterable[tuple[str, object]]) -> Arrays:
    """What `make` returns, made once for these files (each with a remark of its own), until one of them changes."""
    digest = hashlib.sha256(what.encode())
    for path, remark in files:
        status = Path(path).stat()
        digest.update(f"{path}\0{remark}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    cache = user_cache_path("corridor_exp") / f"{digest.hexdigest()[:32]}.npz"
    try:
        with np.load(cache) as stored:
            return dict(stored)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there yet, or damaged
    arrays = make()
    _store(cache, arrays)
    return arrays


def _store(cache: Path, arrays: Arrays) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache.with_suffix(f".{np.random.default_rng().integers(1 << 60)}.tmp.npz")
        np.savez(temporary, allow_pickle=False, **arrays)
        temporary.replace(cache)
    except OSError:
        pass  # a cache that cannot be written costs time, not the run
