"""From a command line to checked configurations, by Hydra's own parser and composer.

Hydra's errors name its internals; these name the closest valid word. Every job of a sweep is composed and checked
before the first one starts.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from corridor_exp import secrets, targets
from corridor_exp.config import CONF_DIR, SWEEP_GROUPS, Config, option_groups, suggestion
from corridor_exp.errors import UsageError
from corridor_exp.files import refuse_bombs


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags; an unknown one is a `UsageError` that names the closest."""
    parser = get_args_parser()
    parser.add_argument("--estimate", action="store_true")  # ours

    def refuse(message: str) -> NoReturn:
        raise UsageError(message)

    parser.error = refuse
    args, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        flags = re.findall(r"--[a-z-]+", parser.format_usage())
        raise UsageError(f"unknown flag {unknown[0]}{suggestion(unknown[0].split('=')[0], flags)} (see --help)")
    for flag in ("config_path", "config_name", "experimental_rerun"):
        if getattr(args, flag):
            raise UsageError(f"--{flag.replace('_', '-')} is not supported; add options of your own with --config-dir")
    return args


def compose_jobs(overrides: Sequence[str], multirun: bool, config_dir: str | None = None) -> list[Config]:
    """One checked configuration for each job of the command line, in the order in which Hydra runs them."""
    secrets.learn_arguments(overrides)
    conf = Conf([CONF_DIR, *([Path(config_dir).absolute()] if config_dir else [])])
    parsed = [_parse(text) for text in overrides]
    for override in parsed:
        if override.key_or_group == targets.SETTING:  # in a file, say of a figure: a command line's own was taken out
            raise UsageError(f"{targets.SETTING} is no key of a run: write {targets.SETTING}=[PREFIX] as an argument")
        conf.check_option(override)
        if override.is_sweep_override() and not multirun:
            raise UsageError(f"{override.input_line}: several values are a sweep; add -m to run them all")
    if config_dir:
        overrides = [*overrides, f"hydra.searchpath=[{quoted(conf.folders[1].as_uri())}]"]
        parsed.append(_parse(overrides[-1]))
    try:
        jobs = BasicSweeper.split_arguments(parsed, None)[0] if multirun else [list(overrides)]
    except HydraException as error:
        raise UsageError(_one_line(error)) from None
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return [Config.parse(_compose(job, conf)) for job in jobs]


def _parse(text: str) -> Override:
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        if "=" not in text and not text.startswith("~"):
            raise UsageError(f"{text!r} is not an override: write key=value (see --help)") from None
        key = text.partition("=")[0]
        if secrets.is_secret(key):
            raise UsageError(f"cannot read the value of {key}: put it into quotes") from None
        raise UsageError(f"cannot read {text!r}: {_one_line(error)}") from None


def _compose(overrides: list[str], conf: Conf) -> dict[str, Any]:
    try:
        composed = compose("config", overrides)
        resolved = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except YAMLError as error:  # in an option's file
        raise UsageError(" ".join(str(error).split())) from None
    except (HydraException, OmegaConfBaseException) as error:
        _explain_unknown_key(error, overrides, conf)
        raise UsageError(_one_line(error)) from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _explain_unknown_key(error: Exception, overrides: list[str], conf: Conf) -> None:
    """If a key is what Hydra choked on, say which word was meant: compare with what the chosen options hold."""
    parsed = [_parse(text) for text in overrides]
    for override in parsed:
        key = override.key_or_group
        if key in SWEEP_GROUPS:
            raise UsageError(f"{override.input_line} names the runs of a sweep: corridor-sweep {override.input_line}")
        parent, _, part = key.rpartition("/")
        if parent and conf.is_group(override) and f"'{key}'" in str(error):
            raise UsageError(f"{key}: the chosen {parent} option has no {part} to choose")
    composed = getattr(error.__cause__, "parent_node", None)  # where OmegaConf looked for the key
    if composed is None:
        return
    known = [key for key in _keys(OmegaConf.to_container(composed._get_root())) if not key.startswith("hydra")]
    known.append(targets.SETTING)
    for override in parsed:
        key = override.key_or_group
        if key in known or key.startswith("hydra") or conf.is_group(override) or override.is_add():
            continue
        siblings = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]]
        raise UsageError(f"unknown key {key!r}{suggestion(key, siblings) or suggestion(key, known)}")


class Conf:
    """The groups and options that the configuration folders hold."""

    def __init__(self, folders: list[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise UsageError(f"--config-dir {folder}: no such folder")
        for folder in folders[1:]:
            refuse_bombs(folder)
        self.folders, self.groups = folders, option_groups(folders)

    def is_group(self, override: Override) -> bool:
        return override.key_or_group in self.groups or override.key_or_group.startswith("hydra/")

    def check_option(self, override: Override) -> None:
        group = override.key_or_group
        if group not in self.groups or override.is_delete():
            return
        options = self.groups[group]
        for value in _elements(override):
            if value not in options:
                raise UsageError(
                    f"{group}={value}: no such option{suggestion(str(value), options)} "
                    f"({group} is one of: {', '.join(options)})"
                )


def _elements(override: Override) -> Iterable[Any]:
    """The options that an override of a group names: one, those of a list, or those of a sweep."""
    for element in override.sweep_iterator() if override.is_sweep_override() else [override.value()]:
        yield from element if isinstance(element, list) else [element]


def _keys(tree: Any, prefix: str = "") -> Iterable[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def quoted(text: str) -> str:
    """A value that Hydra's grammar reads back as exactly this string."""
    return "'" + re.sub(r"(\\+)('|$)", r"\1\1\2", text).replace("'", r"\'") + "'"


def hide_secrets(overrides: Sequence[str]) -> list[str]:
    """The same overrides with every secret moved to the environment, so that no file of Hydra's can hold it."""
    hidden = []
    for text in overrides:
        key = text.partition("=")[0]
        if secrets.redact_argument(text) != text and isinstance(secret := _parse(text).value(), str):
            variable = secrets.variable(key)
            os.environ[variable] = secret
            text = f"{key}=${{oc.env:{variable}}}"
        hidden.append(text)
    return hidden


def to_config(composed: DictConfig) -> Config:
    """What `hydra.main` hands to a job, checked again, as the job may run in another process."""
    resolved = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(resolved, dict)
    return Config.parse({str(key): value for key, value in resolved.items()})
