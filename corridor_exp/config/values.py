"""The types of values, checked by pydantic, with messages for wrong values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from corridor_exp.config.secrets import redact
from corridor_exp.config.threads import MOST_THREADS
from corridor_exp.files import ADDRESS, SAFE_NAME

TOO_MANY = 2**31  # images, steps, units: more than a tensor can count


def _slug(text: str) -> str:
    if not SAFE_NAME.fullmatch(text):
        raise ValueError("must be 1 to 100 letters, digits, dots, dashes or underscores, not starting with a dot")
    return text


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("must be a path")
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):  # bytes that are no UTF-8
        raise ValueError("must be UTF-8, or a configuration cannot hold it: rename the folder, or give a link to it")
    return text


def _account(text: str) -> str:
    if redact(text) != text:
        raise ValueError("must be a name, without a login")
    return text


def _home(text: str) -> str:
    if ADDRESS.match(text):
        raise ValueError("must be a folder of this machine, and no address")
    try:
        Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"there is no such user; a folder of that name is ./{text}") from None
    return text


def _batch_size(value: int | str) -> int | str:
    if value != "full" and not (isinstance(value, int) and 0 < value < TOO_MANY):
        raise ValueError("must be a positive whole number, or full")
    return value


def _interval(value: int | str) -> int | str:
    minutes = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)min", str(value))
    if (float(minutes[1]) if minutes else 0) > 0 or (isinstance(value, int) and 0 < value < TOO_MANY):
        return value
    raise ValueError("must be a positive whole number of steps, or minutes such as 10min")


def _held_out(value: int | float) -> int | float:
    if not (0 < value < 1 or (isinstance(value, int) and 0 < value < TOO_MANY)):
        raise ValueError("must be a positive whole number of training images, or a share of them between 0 and 1")
    return value


def _loss(text: str) -> str:
    if text not in ("auto", "cross_entropy", "mse") and "." not in text:
        raise ValueError("must be auto, cross_entropy, mse, or the dotted name of a function or class")
    return text


def _float32(value: float) -> float:
    if abs(value) > 3.4e38:
        raise ValueError("must be at most 3.4e38, as float32 has no larger number")
    return value


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise ValueError("must be auto, cpu, cuda or cuda:N")
    return text


Slug = Annotated[str, AfterValidator(_slug)]
PathStr = Annotated[str, AfterValidator(_path)]
Account = Annotated[str, AfterValidator(_account)]
RunPath = Annotated[PathStr, AfterValidator(_home)]  # of a folder of runs; data sets refuse a root themselves
Device = Annotated[str, AfterValidator(_device)]
LossName = Annotated[str, AfterValidator(_loss)]
BatchSize = Annotated[int | str, AfterValidator(_batch_size)]
HeldOut = Annotated[int | float, AfterValidator(_held_out)]
Interval = Annotated[int | str, AfterValidator(_interval)]
Count = Annotated[int, Field(gt=0, lt=TOO_MANY)]
Whole = Annotated[int, Field(ge=0, lt=TOO_MANY)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Threads = Annotated[int, Field(gt=0, le=MOST_THREADS)]
ImageSize = Annotated[int, Field(ge=1, le=4096)]
Finite = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_float32)]
Positive = Annotated[Finite, Field(gt=0)]
NonNegative = Annotated[Finite, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Fractions = Annotated[list[Fraction], Field(min_length=2, max_length=2)]
Means = Annotated[list[Finite], Field(min_length=3, max_length=3)]
Deviations = Annotated[list[Positive], Field(min_length=3, max_length=3)]
