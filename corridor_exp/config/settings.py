"""The keys of a sweep that are not keys of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from corridor_exp.config.mistakes import first_problem
from corridor_exp.config.values import Count, RunPath, Whole
from corridor_exp.errors import UsageError

UNION = "+"  # begins a grid
SCALES_OF_FIGURES = ("full", "mini")  # scales without a file: each figure alone says what they add
NO_HYDRA = (
    "has no meaning here, because Hydra only composes: executor=local|slurm and processes=N start the runs of -m, "
    "out_dir=DIR places them, and corridor-sweep runs a union of grids"
)


class Keys(BaseModel):
    """Typed keys, parsed from the text of a command line."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Slurm(Keys):
    """`slurm.KEY=VALUE`: the resources of one task of the array job."""

    partition: str | None = None
    time: Count = 240  # minutes
    cpus: Count = 1
    gpus: Count | None = None
    mem: Count | None = None  # GB
    parallel: Count = 256  # tasks at a time
    grace: Count = 90  # seconds before the time limit at which the run is told to save
    requeues: Whole = 100  # time limits that a run may hit
    sbatch: dict[str, str] = {}  # any other option of sbatch, such as slurm.sbatch.account=mine


class Settings(Keys):
    figure: str | None = None
    scale: str | None = None
    out_dir: RunPath | None = None
    executor: Literal["local", "slurm"] = "local"
    processes: Count = 1
    slurm: Slurm = Field(default_factory=Slurm)

    @classmethod
    def take(cls, arguments: Sequence[str]) -> tuple[Settings, list[str]]:
        """The settings among the arguments of a command line, and the other arguments, which are for the runs."""
        own: dict[str, Any] = {}
        slurm: dict[str, Any] = {}
        sbatch: dict[str, str] = {}
        others = []
        for argument in arguments:
            key, _, value = argument.partition("=")
            if key.startswith("slurm.sbatch."):
                sbatch[key.removeprefix("slurm.sbatch.")] = value
            elif key == "slurm":
                raise UsageError(f"{argument}: write slurm.KEY=VALUE ({', '.join(Slurm.model_fields)})")
            elif key.startswith("slurm."):
                slurm[key.removeprefix("slurm.")] = value
            elif key in cls.model_fields:
                own[key] = value
            else:
                others.append(argument)
        try:
            return cls.model_validate({**own, "slurm": {"sbatch": sbatch, **slurm}}), others
        except ValidationError as error:
            raise UsageError(first_problem(error, {**cls.model_fields, "slurm": Slurm.model_fields})) from None


def is_of_a_sweep(argument: str) -> bool:
    """Whether an argument of the command line is a setting that a single run does not have."""
    key = argument.partition("=")[0]
    return key in ("executor", "processes", "slurm") or key.startswith("slurm.")
