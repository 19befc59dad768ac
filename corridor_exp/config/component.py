"""An option of a configuration. `Component.build` is the one place where a `_target_` becomes an object."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from corridor_exp.config import targets
from corridor_exp.config.options import our_targets
from corridor_exp.config.values import Slug
from corridor_exp.errors import UsageError

ABSENT: Any = None  # the value of a key that an option does not have; no option gets a value from here


class Strict(BaseModel):
    """Keys with types; any other key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class Component(BaseModel):
    """One option of a group: what to build (`_target_`), its label, and its keyword arguments."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, serialize_by_alias=True, defer_build=True)

    name: Slug | None = ABSENT
    target: str = Field(alias="_target_")

    def keywords(self) -> dict[str, Any]:
        """The keys that are the target's own arguments."""
        set_keys = self.model_dump(exclude_unset=True)
        return {key: value for key, value in set_keys.items() if key not in ("name", "_target_", "schedule")}

    def factory(self) -> Callable[..., Any]:
        """The class or function that `_target_` names. Raises `UsageError` if it is not trusted."""
        return targets.load(self.target, our_targets())

    def takes(self, argument: str) -> bool:
        """Whether the target has an argument of this name."""
        try:
            return argument in inspect.signature(self.factory()).parameters
        except ValueError:  # one of C's, which has no signature
            return False

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """Call the target with the option's keys and with `kwargs`, which take precedence."""
        factory, keywords = self.factory(), {**self.keywords(), **kwargs}
        try:
            inspect.signature(factory).bind(*args, **keywords)
        except ValueError:  # a function in C has no signature
            pass
        except TypeError as error:
            called = ", ".join([*(type(argument).__name__ for argument in args), *(f"{key}=" for key in keywords)])
            raise UsageError(f"_target_={self.target}: {error}; it is called with ({called})") from None
        try:
            return factory(*args, **keywords)
        except TypeError as error:
            passed_on = re.search(r"unexpected keyword argument '(\w+)'", str(error))  # by the target's **kwargs
            if passed_on and passed_on[1] in keywords:
                raise UsageError(f"_target_={self.target}: {error}") from None
            raise
