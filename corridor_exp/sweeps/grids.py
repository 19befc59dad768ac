"""A union of grids: the command lines whose runs make a sweep. Knows no Hydra; `cli.compose` expands each line.

One grid cannot say "CLR, which has no learning rate to tune, beside SGD at three of them"; a union of two can.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import Field, ValidationError

from corridor_exp.config import Strict, first_problem, suggestion
from corridor_exp.errors import UsageError

UNION = "+"


class Figure(Strict):
    """The runs of a figure, `conf/figure/NAME.yaml`: overrides as one would type them, a line a grid."""

    common: str = ""
    scales: dict[str, str] = Field(default_factory=dict)
    grids: list[str]


class Scale(Strict):
    """How much of a figure's work to do, `conf/scale/NAME.yaml`: overrides that hold for all of its grids."""

    common: str


Kind = TypeVar("Kind", Figure, Scale)


def union(arguments: Sequence[str]) -> list[list[str]]:
    """`common… + grid… + grid…` as one list of overrides a grid; without a `+`, one grid."""
    common, *grids = _split(arguments)
    if not all(grids):
        raise UsageError("a + begins a grid, and one has no override after it (see --help)")
    return [[*common, *grid] for grid in grids] or [common]


def figure_grids(folders: list[Path], figure: str, scale: str | None, arguments: Sequence[str]) -> list[list[str]]:
    """The grids of a figure, at a scale, with overrides that win over both; a later override wins over an earlier."""
    if UNION in arguments:
        raise UsageError("figure= is a union already: overrides beside it hold for all of its grids")
    chosen = _load(Figure, folders, "figure", figure)
    common = shlex.split(chosen.common)
    if scale is not None:
        common += shlex.split(_load(Scale, folders, "scale", scale).common) + shlex.split(chosen.scales.get(scale, ""))
    return [[*common, *shlex.split(grid), *arguments] for grid in chosen.grids]


def _split(arguments: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for argument in arguments:
        if argument == UNION:
            parts.append([])
        else:
            parts[-1].append(argument)
    return parts


def _load(kind: type[Kind], folders: list[Path], group: str, name: str) -> Kind:
    files = {file.stem: file for folder in folders for file in sorted(folder.glob(f"{group}/*.yaml"))}
    if name not in files:
        raise UsageError(f"{group}={name}: no such option{suggestion(name, files)} ({group}s: {', '.join(files)})")
    try:
        return kind.model_validate(yaml.safe_load(files[name].read_text()))
    except yaml.YAMLError as error:
        raise UsageError(f"{files[name]}: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise UsageError(f"{files[name]}: {first_problem(error, kind.model_fields)}") from None
