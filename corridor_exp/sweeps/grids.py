"""A union of grids: the command lines whose runs make a sweep. Knows no Hydra; `config.compose` expands each line.

One grid cannot say "CLR, which has no learning rate to tune, beside SGD at three of them"; a union of two can.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from corridor_exp.config.component import Strict
from corridor_exp.config.mistakes import first_problem, suggestion
from corridor_exp.config.settings import SCALES_OF_FIGURES, UNION
from corridor_exp.errors import UsageError
from corridor_exp.yaml_files import load_yaml


def _words(line: str) -> str:
    shlex.split(line)  # raises `ValueError` for a quotation without an end
    return line


Line = Annotated[str, AfterValidator(_words)]


class Figure(Strict):
    """The runs of a figure, `conf/figure/NAME.yaml`: overrides as one would type them, a line a grid; and its panels.

    Each grid is joined with each of the `settings`, lines of overrides too, setting by setting. A scale is one line for
    all grids, or a list with a line for each. `runs` names other figures, as words of one line, whose runs this one
    shows beside its own; `optim` restricts them to one optimizer. A panel is a metric of `records` over the epochs, or
    several, as words of one line.

    With `targets`, the figure is a benchmark (`figures.rivals`): each setting gives its runs a `name`, and the targets
    say by name which mean training loss is to be reached.
    """

    title: str = ""
    runs: str = ""
    optim: str | None = None
    common: Line = ""
    targets: dict[str, float] = Field(default_factory=dict)
    grids: list[Line] = Field(default_factory=list)
    settings: list[Line] = Field(default_factory=lambda: [""])
    scales: dict[str, Line | list[Line]] = Field(default_factory=dict)
    panels: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _a_line_a_grid(self) -> Figure:
        for name, lines in self.scales.items():
            if isinstance(lines, list) and len(lines) != len(self.grids):
                raise ValueError(f"scale {name} has {len(lines)} lines for {len(self.grids)} grids")
        return self

    def overrides(self, common: str, scale: str | None, optim: str | None = None) -> list[list[str]]:
        """The overrides of each grid at a scale; of the grids with `optim=…` alone, if one is named."""
        added = self.scales.get(scale or "", "")
        lines = added if isinstance(added, list) else [added] * len(self.grids)
        split = [
            shlex.split(f"{self.common} {common} {line} {setting} {grid}")
            for setting in self.settings
            for line, grid in zip(lines, self.grids, strict=True)
        ]
        return [words for words in split if optim is None or f"optim={optim}" in words]


class Scale(Strict):
    """How much of a figure's work to do, `conf/scale/NAME.yaml`: overrides that hold for all of its grids."""

    common: Line


Kind = TypeVar("Kind", Figure, Scale)


def union(arguments: Sequence[str]) -> list[list[str]]:
    """`common… + grid… + grid…` as one list of overrides a grid; without a `+`, one grid."""
    common, *grids = _split(arguments)
    if not all(grids):
        raise UsageError("a + begins a grid, and one has no override after it (see --help)")
    return [[*common, *grid] for grid in grids] or [common]


def figure_grids(folders: list[Path], figure: str, scale: str | None, arguments: Sequence[str]) -> list[list[str]]:
    """The grids of a figure, at a scale, with overrides that win over both; a later override wins over an earlier.

    A figure without grids of its own has those of the figures whose runs it shows.
    """
    if UNION in arguments:
        raise UsageError("figure= is a union already: overrides beside it hold for all of its grids")
    chosen = load_figure(folders, figure)
    common = ""
    if scale is not None and scale not in SCALES_OF_FIGURES:
        common = _load(Scale, folders, "scale", scale, SCALES_OF_FIGURES).common
    found = chosen.overrides(common, scale)
    for other in chosen.runs.split() if not found else ():
        found += load_figure(folders, other).overrides(common, scale, chosen.optim)
    if not found:
        raise UsageError(f"figure={figure} needs no runs: draw it by corridor-figures {figure}")
    return [[*grid, *arguments] for grid in found]


def load_figure(folders: list[Path], name: str) -> Figure:
    return _load(Figure, folders, "figure", name)


def _split(arguments: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for argument in arguments:
        if argument == UNION:
            parts.append([])
        else:
            parts[-1].append(argument)
    return parts


def _load(kind: type[Kind], folders: list[Path], group: str, name: str, others: Sequence[str] = ()) -> Kind:
    files = {file.stem: file for folder in folders for file in sorted(folder.glob(f"{group}/*.yaml"))}
    if name not in files:
        known = list(others) + list(files)
        raise UsageError(f"{group}={name}: no such option{suggestion(name, known)} ({group}s: {', '.join(known)})")
    try:
        return kind.model_validate(load_yaml(files[name]))
    except ValidationError as error:
        raise UsageError(f"{files[name]}: {first_problem(error, kind.model_fields)}") from None
