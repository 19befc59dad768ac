"""Which `_target_`s a configuration may use.

A configuration may come from a stranger's run folder, so it does not decide this itself. Allowed are the targets in our
own `conf/`, the optimizers of `torch.optim`, the modules of `torch.nn` and the registered builders of
`torchvision.models`. Only `allow_targets=[PREFIX,…]` on a command line allows more. It is a setting of the process and
is never stored in a file. The name is checked before the import, because importing a module runs its code.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from types import ModuleType
from typing import Any

from corridor_exp.errors import UsageError

OPTIMIZERS, MODULES, BUILDERS = "torch.optim", "torch.nn", "torchvision.models"
SETTING = "allow_targets"
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_allowed: tuple[str, ...] = ()  # by the user of this process


def allow(prefixes: Iterable[str]) -> None:
    """Trust these prefixes in this process from now on: a module with everything in it, or one object."""
    global _allowed
    _allowed = tuple(prefix.removesuffix(".") for prefix in prefixes)
    for prefix in _allowed:
        if not _DOTTED.fullmatch(prefix):
            raise UsageError(f"{SETTING}: {prefix!r} is no module's name; write {SETTING}=[mylib] or [mylib.models]")


def allowed() -> tuple[str, ...]:
    """What the user of this process trusts. Its workers get the same."""
    return _allowed


def take(arguments: Sequence[str]) -> list[str]:
    """Trust what `allow_targets=[PREFIX,…]` among the arguments of a command line says. Returns the others."""
    values = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{SETTING}=")]
    words = [word.strip(" '\"") for value in values for word in value.strip(" []").split(",")]
    allow(word for word in words if word)
    return [argument for argument in arguments if not argument.startswith(f"{SETTING}=")]


def check(target: str, ours: Collection[str], key: str = "_target_") -> None:
    """Raise `UsageError` unless the name is allowed. Imports nothing; `ours` are the targets of our own `conf/`."""
    packages = (OPTIMIZERS, MODULES, BUILDERS, *_allowed)
    if not _DOTTED.fullmatch(target) or not (target in ours or _is_below(target, packages)):
        raise UsageError(
            f"{key}={target} is not trusted: allowed are the targets of conf/, optimizers of {OPTIMIZERS}, modules of "
            f"{MODULES} and builders of {BUILDERS}; more by {SETTING}=[PREFIX] on the command line"
        )


def load(target: str, ours: Collection[str]) -> Callable[..., Any]:
    """The class or function of that name. Raises `UsageError` if its name or its definition is not allowed."""
    check(target, ours)
    try:
        found = _find(target)
    except (ImportError, AttributeError) as error:
        here = "; PYTHONPATH=. before the command finds a module of this folder"
        raise UsageError(f"_target_={target}: {error}{here * isinstance(error, ModuleNotFoundError)}") from None
    if not callable(found) or not (target in ours or _is_allowed(found)):
        home = f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', type(found).__name__)}"
        raise UsageError(f"_target_={target} is {home}, which is not trusted: no optimizer, module or builder")
    return found


def _find(target: str) -> Any:
    """Go from a package down to one of its objects. An alias of another package, such as `logging.os`, is refused."""
    path, *parts = target.split(".")
    found: Any = importlib.import_module(path)
    for part in parts:
        path = f"{path}.{part}"
        if isinstance(found, ModuleType) and not hasattr(found, part):
            found = importlib.import_module(path)
        else:
            found = getattr(found, part)
        if isinstance(found, ModuleType) and found.__name__ != path:
            raise ImportError(f"{path} is only another name of the module {found.__name__}")
    return found


def _is_allowed(found: Any) -> bool:
    """Whether the place where an object was defined is allowed, independent of the name in the configuration."""
    home, name = getattr(found, "__module__", None) or "", getattr(found, "__qualname__", "")
    if _is_below(f"{home}.{name}", _allowed):
        return True
    if _is_below(home, (OPTIMIZERS, MODULES)) and isinstance(found, type) and not name.startswith("_"):
        from torch import nn, optim  # loaded: the object is torch's

        return issubclass(found, optim.Optimizer if _is_below(home, (OPTIMIZERS,)) else nn.Module)
    if _is_below(home, (BUILDERS,)):
        from torchvision.models import get_model_builder, list_models

        return any(found is get_model_builder(name) for name in list_models())
    return False


def _is_below(name: str, packages: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)
