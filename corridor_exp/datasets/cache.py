"""Arrays that take long to compute, in the user's cache folder. Their file name is a hash of what they depend on."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

NamedArrays = dict[str, np.ndarray]


def cached(compute: Callable[[], NamedArrays], kind: str, files: Iterable[tuple[str, object]]) -> NamedArrays:
    """The result of `compute`, which runs again only if a file, its size or time, or the label beside it changes."""
    digest = hashlib.sha256(kind.encode())
    for path, label in files:
        place = Path(path).absolute()
        status = place.stat()
        digest.update(f"{place}\0{label}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    cache = user_cache_path("corridor_exp") / f"{digest.hexdigest()[:32]}.npz"
    try:
        with np.load(cache) as stored:
            return dict(stored)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # missing or damaged
    arrays = compute()
    _store(cache, arrays)
    return arrays


def _store(cache: Path, arrays: NamedArrays) -> None:
    temporary = cache.with_suffix(f".{np.random.default_rng().integers(1 << 60)}.tmp.npz")
    with suppress(OSError):  # without a cache the next run takes longer, and gives the same result
        cache.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez(temporary, allow_pickle=False, **arrays)
            temporary.replace(cache)
        finally:
            temporary.unlink(missing_ok=True)
