"""The folder `conf/`: its place, its groups and options, and the keys of our own options."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from corridor_exp.errors import UsageError
from corridor_exp.yaml_files import load_yaml

PACKAGE = Path(__file__).parents[1]
SHIPPED = PACKAGE if (PACKAGE / "conf").is_dir() else PACKAGE.parent  # an installed wheel has them inside
CONF_DIR, SBATCH = SHIPPED / "conf", SHIPPED / "scripts" / "train.sbatch"
SWEEP_GROUPS = ("figure", "scale")  # of corridor-sweep: their files hold command lines


def option_groups(folders: Iterable[Path]) -> dict[str, list[str]]:
    """The groups of one or more configuration folders, and the options of each, sorted."""
    patterns = ("*/*.yaml", "*/*/*.yaml")  # optim/sgd.yaml, optim/schedule/cosine.yaml
    try:
        found = [(folder, file) for folder in folders for pattern in patterns for file in folder.glob(pattern)]
    except OSError as error:
        raise UsageError(f"a configuration folder cannot be read: {error}") from None
    files = sorted(file.relative_to(folder) for folder, file in found)
    groups: dict[str, list[str]] = {}
    for file in files:
        if file.parts[0] not in SWEEP_GROUPS:
            groups.setdefault(file.parent.as_posix(), []).append(file.stem)
    return dict(sorted(groups.items()))


@cache
def our_groups() -> dict[str, list[str]]:
    """The groups and options in the package."""
    return option_groups([CONF_DIR])


@cache
def our_option(group: str, name: str | None) -> dict[str, Any]:
    """The keys and values of one of our options, with those of the options it is based on; empty for any other."""
    if name not in our_groups().get(group, ()):
        return {}
    own = load_yaml(CONF_DIR / group / f"{name}.yaml")
    held: dict[str, Any] = {}
    for default in own.pop("defaults", []):  # `- adam` is another option, `- schedule: constant` a group of its own
        held |= default if isinstance(default, dict) else our_option(group, default)
    return held | own


def defaults_of_optimizers() -> dict[str, dict[str, Any]]:
    """The keys of each optimizer with the values in its file, by its name."""
    return {name: our_option("optim", name) for name in our_groups()["optim"]}


@cache
def our_targets() -> frozenset[str]:
    """Every `_target_` that the packaged `conf/` names."""
    named = re.compile(r"^ *_target_: *(\S+)", re.MULTILINE)
    return frozenset(target for file in CONF_DIR.rglob("*.yaml") for target in named.findall(file.read_text()))
