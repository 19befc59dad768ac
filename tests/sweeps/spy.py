"""Mirrors for tests: one tells how long its key is, without telling the key; one makes a run last."""

from __future__ import annotations

import time
from typing import Any


class Spy:
    def __init__(self, api_key: str | None = None, seconds: float = 0.0) -> None:
        """`seconds` are slept at each record: a run can be caught in the middle, however fast the machine."""
        print(f"the key has {len(api_key or '')} letters", flush=True)
        self.seconds = seconds

    def start(self, *_: Any, **__: Any) -> None: ...

    def log(self, record: Any) -> None:
        time.sleep(self.seconds)

    def finish(self, status: str) -> None: ...
