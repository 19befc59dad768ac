"""How a model's factory is called: our own, a user's, or one of torchvision or timm."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from corridor_exp.objective.batches import DataShape


def arguments_for(factory: Callable[..., Any], shape: DataShape) -> tuple[list[Any], dict[str, Any]]:
    """What a factory is told about the data, as arguments and keywords.

    It gets `num_classes` if it names it, or if it has no argument without a default but takes any keyword, as those of
    torchvision and timm do. Otherwise its first argument is the shape of the data, if it has one without a default.
    """
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except ValueError:  # one of C's, which has no signature
        return [shape], {}
    if any(p.name == "num_classes" for p in parameters):
        return [], {"num_classes": shape.outputs}
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(p.kind is p.VAR_POSITIONAL or (p.kind in positional and p.default is p.empty) for p in parameters):
        return [shape], {}
    return [], {"num_classes": shape.outputs} if any(p.kind is p.VAR_KEYWORD for p in parameters) else {}
