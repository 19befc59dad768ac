"""Secrets: how they are recognised and removed. They leave this process only in the environment of its children.

A value is a secret because of its key (`api_key`, `hub.token`, all keys below `credentials`) or because of its form
(`user:pw@host`, `?api_key=K`). `redact` is for configurations. It depends only on its argument, so that a run has the
same configuration everywhere. `clean` is for messages. It also replaces every secret value that this process knows, in
all forms in which a message may quote it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any
from urllib.parse import quote

from corridor_exp.errors import UsageError

REDACTED = "<redacted>"
SHORTEST = 4  # letters: a shorter secret is part of too many words, so messages are not searched for it

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")  # of snake_case, kebab-case and camelCase
_SECRET_KEY = re.compile(  # in the words of a key, each with _ before and after it
    r"_[a-z]*(password|passwd|passphrase|passcode|secret|credential)s?_"
    r"|_(pwd|auth|oauth|authorization|bearer|cookie|creds|jwt)_"
    r"|_(api|access|account|auth|client|deploy|encryption|license|master|private|secret|service|shared|signing|ssh)_?keys?_"
    r"|_(wandb|openai|github|hf|aws|azure)_?keys?_|_(api|access|auth|refresh)_tokens_"
    r"|_([a-z]*token|pass|pw|pat|dsn|sig|signature)_(\d+_)?$"
)
_QUOTED = r"""<redacted>|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\[[^\]]*\]|\{[^}]*\}"""
_VALUE, _ITEM = (rf"""(?:{_QUOTED}|[^\s{stop}&"'\])}}]+)""" for stop in ("", ","))
_FORMS = (
    # key=value of a command line or an address; "key": value; {key: value} of Hydra and YAML. What follows is looked at
    # again, as a value may hold such a pair.
    re.compile(rf"""(?P<key>[\w.-]+)["']?\s*=\s*(?=(?P<secret>{_VALUE}))"""),
    re.compile(rf"""["'](?P<key>[\w.-]+)["']\s*:\s*(?=(?P<secret>{_ITEM}))"""),
    re.compile(rf"""[{{,]\s*(?P<key>[\w.-]+)\s*:\s*(?=(?P<secret>{_ITEM}))"""),
    # A login: an error may have shortened the slashes; a password may hold a slash or an @.
    re.compile(r"""[A-Za-z][A-Za-z0-9+.-]+:/+(?P<secret>[^\s"']+)@"""),
    re.compile(r"""(?<![\w/.:+-])(?P<secret>[\w.+-]+:(?!/)[^\s"']+)@(?=[A-Za-z]|\d+\.\d|\[)"""),
    re.compile(r"""(?<![\w:])//(?P<secret>[\w.+-]+:[^\s"']+)@"""),
    re.compile(r"""(?i:\bbearer|authorization:\s*basic)\s+(?P<secret>[\w.~+/=-]{8,})"""),
    re.compile(r"""[?&](?i:key)=(?P<secret>[^\s&"']+)"""),
)
_NO_SECRET = ("", "null", "none", "true", "false", REDACTED)
_learnt: set[str] = set()  # secret values, in all forms in which a message may quote them


@lru_cache(maxsize=10_000)  # a folder of runs has the same keys many times
def is_secret(key: str) -> bool:
    """Whether the value of a key is secret: `api_key`, `authToken`, `hub.token.value`; not `num_tokens`."""
    return any(_SECRET_KEY.search(f"_{'_'.join(_WORD.findall(part)).lower()}_") for part in key.split("."))


def redact(value: Any, key: str = "") -> Any:
    """The same tree with every secret replaced. In a text, the parts that look like secrets are replaced."""
    if isinstance(value, Mapping):
        return {k: redact(v, f"{key}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact(v, key) for v in value]
    if value is None or isinstance(value, bool) or value == "":
        return value
    if is_secret(key):
        return REDACTED
    return _replaced(value) if isinstance(value, str) else value


def redact_argument(text: str) -> str:
    """The same argument of a command line, `key=value` or another, without its secrets."""
    key, _, value = text.partition("=")
    return f"{key}={redact(value, key)}" if value.lower() not in _NO_SECRET and is_secret(key) else _replaced(text)


def scrub_arguments() -> None:
    """Take the secrets out of `sys.argv`. W&B writes it to a file, and every process of a sweep gets it."""
    sys.argv[1:] = map(redact_argument, sys.argv[1:])


def _replaced(text: str) -> str:
    kept, done = "", 0
    for start, end in sorted(_spans(text)):
        if start >= done:
            kept += text[done:start] + REDACTED
        done = max(done, end)
    return kept + text[done:]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the secrets in a text begin and end. They may overlap."""
    for match in (match for form in _FORMS for match in form.finditer(text)):
        key = match.groupdict().get("key")
        if match["secret"].lower() not in _NO_SECRET and (key is None or is_secret(key)):
            yield match.span("secret")


# ------------------------------------------------------------------------- messages


def learn(tree: Mapping[str, Any]) -> None:
    """Remember the secrets of a configuration. From now on no message and no last traceback has them."""
    for key, value in _secrets(tree):
        sys.excepthook = _excepthook
        for part in [str(value)] if is_secret(key) else _parts(value):
            if len(part) >= SHORTEST and part.lower() not in _NO_SECRET:
                _learnt.update((part, quote(part, safe=""), repr(part)[1:-1]))


def learn_arguments(arguments: Iterable[str]) -> None:
    """The same for the overrides of a command line, because a message may quote them before they are parsed."""
    for key, _, value in (argument.partition("=") for argument in arguments):
        learn({key: value.strip("'\"")})


def clean(text: str) -> str:
    """A message, an error or a traceback without secrets."""
    for secret in sorted(_learnt, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return _replaced(text)


def _parts(text: str) -> Iterator[str]:
    """The secret parts of a text, as a message may quote them: a login with its @, and a password also alone."""
    for start, end in _spans(text):
        secret, is_login = text[start:end], text[end : end + 1] == "@"
        _, colon, password = secret.partition(":")
        if is_login:
            yield f"{secret}@"
        if not is_login or colon or len(secret) >= 2 * SHORTEST:  # a short login may be only a name
            yield password if is_login and colon else secret.strip("\"'")


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(clean("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


# ----------------------------------------------------------------- to another process


def leave(trees: Sequence[Mapping[str, Any]]) -> None:
    """Put the secrets of configurations into the environment, where the runs of a sweep find them."""
    found: dict[str, Any] = {}
    for tree in trees:
        for key, value in _secrets(tree):
            if found.setdefault(key, value) != value:
                raise UsageError(f"{key} is a secret, and must be the same for all runs of a sweep")
    os.environ.update({variable(key): json.dumps(value) for key, value in found.items()})


def restore(tree: Any, key: str = "") -> Any:
    """A redacted tree with the secrets from the environment; a secret that is not there becomes null."""
    if isinstance(tree, Mapping):
        return {k: restore(v, f"{key}.{k}" if key else str(k)) for k, v in tree.items()}
    if isinstance(tree, list):
        return [restore(v, f"{key}.{number}") for number, v in enumerate(tree)]
    if isinstance(tree, str) and REDACTED in tree:
        return json.loads(os.environ.get(variable(key), "null"))
    return tree


def without_lost_secrets(tree: Any, here: Any) -> Any:
    """A redacted tree, where a secret is null if it is null in the tree `here`: this environment does not have it."""
    if isinstance(tree, Mapping) and isinstance(here, Mapping):
        return {key: without_lost_secrets(value, here.get(key)) for key, value in tree.items()}
    return None if here is None and isinstance(tree, str) and REDACTED in tree else tree


def variable(key: str) -> str:
    """The environment variable that carries the secret of `key` to another process."""
    return f"CORRIDOR_SECRET_{hashlib.sha256(key.encode()).hexdigest()[:8].upper()}"


def _secrets(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The values that `redact` changes, by dotted key. A number in a key is the index in a list."""
    if isinstance(tree, Mapping):
        for k, value in tree.items():
            yield from _secrets(value, f"{key}.{k}" if key else str(k))
    elif isinstance(tree, list | tuple):
        for number, value in enumerate(tree):
            yield from _secrets(value, f"{key}.{number}")
    elif (hidden := redact(tree, key)) is not tree and hidden != tree:
        yield key, tree
