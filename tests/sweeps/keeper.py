"""A mirror for tests that counts the secrets which it was given, and may fail with all of them in its words."""

from __future__ import annotations

from typing import Any


class Keeper:
    def __init__(self, num_tokens: int, fail: bool, **secrets: Any) -> None:
        told = [secret for secret in secrets.values() if secret and "<redacted>" not in str(secret)]
        print(f"the keeper has {len(told)} secrets", flush=True)
        if fail:
            raise RuntimeError(f"got {secrets['api_key']} and {secrets}, no {str(secrets['login'])[8:]}")

    def start(self, *_: Any, **__: Any) -> None: ...

    def log(self, record: Any) -> None: ...

    def finish(self, status: str) -> None: ...
