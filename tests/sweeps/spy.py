"""A mirror that tells how long its key is, without telling the key."""

from __future__ import annotations

from typing import Any


class Spy:
    def __init__(self, api_key: str | None = None) -> None:
        print(f"the key has {len(api_key or '')} letters", flush=True)

    def start(self, *_: Any, **__: Any) -> None: ...

    def log(self, record: Any) -> None: ...

    def finish(self, status: str) -> None: ...
