"""From a command line to checked configurations, by Hydra's own parser and composer.

Hydra's errors name its internals. The errors here name the closest valid word. Every job of a sweep is composed and
checked before the first one starts. The files of a choice of options are read once for all jobs that make that choice.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from corridor_exp.config import secrets, targets
from corridor_exp.config.differences import nodes
from corridor_exp.config.mistakes import suggestion, unknown_key
from corridor_exp.config.options import CONF_DIR, SWEEP_GROUPS, option_groups, our_groups
from corridor_exp.config.schema import Config
from corridor_exp.config.settings import NO_HYDRA, Settings
from corridor_exp.errors import UsageError, in_words
from corridor_exp.yaml_files import refuse_bombs

MOST_RUNS = 10_000  # of one grid
NOT_OF_A_RUN = dict.fromkeys((*Settings.model_fields, targets.SETTING))  # keys of a command line
# Errors of Hydra and OmegaConf, and errors that they do not catch: an unreadable file, a number of 5,000 digits.
ERRORS = (
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    OSError,
    ValueError,
    ArithmeticError,
    RecursionError,
)


def compose_jobs(overrides: Sequence[str], multirun: bool, config_dir: str | None = None) -> list[Config]:
    """One checked configuration for each job of the command line, in the order of Hydra's multirun."""
    with opened(config_dir) as conf:
        return conf.jobs(overrides, multirun)


def compose_grids(grids: Sequence[Sequence[str]], config_dir: str | None = None) -> list[Config]:
    """The same for each grid of a union."""
    with opened(config_dir) as conf:
        return [config for grid in grids for config in conf.jobs(grid, multirun=True)]


@contextmanager
def opened(config_dir: str | None = None) -> Iterator[Conf]:
    """Our configuration folder and a user's own folder, if there is one. Hydra can read them while this is open."""
    folders = [CONF_DIR, *([Path(config_dir).absolute()] if config_dir is not None else [])]
    if not folders[-1].is_dir():
        raise UsageError(f"--config-dir {folders[-1]}: no such folder")
    for folder in folders[1:]:
        refuse_bombs(folder)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        yield Conf(folders)


class Conf:
    """The groups and options of the configuration folders, and how a job is composed of them."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders, self.groups = folders, option_groups(folders)
        defaults = yaml.safe_load((CONF_DIR / "config.yaml").read_text())["defaults"]
        chosen = [item for default in defaults if isinstance(default, dict) for item in default.items()]
        self.several = {group for group, options in chosen if isinstance(options, list)}
        self.loader = GlobalHydra.instance().config_loader()
        self.parse, self.chosen = cache(self._parse), cache(self._chosen)

    def jobs(self, overrides: Sequence[str], multirun: bool) -> list[Config]:
        """One checked configuration for each job of the overrides."""
        secrets.learn_arguments(overrides)
        parsed = [self.parse(text) for text in overrides]
        for override in parsed:
            self.check(override)
            if override.is_sweep_override() and not multirun:
                raise UsageError(f"{_line(override)}: several values are a sweep; add -m to run them all")
        if not multirun:
            return [self.job(parsed)]
        from tqdm import tqdm

        jobs = [[self.parse(text) for text in job] for job in _product(parsed)]
        return [self.job(job) for job in tqdm(jobs, "composing", unit="run", delay=0.5, leave=False, disable=None)]

    def _parse(self, text: str) -> Override:
        key, has_value, _ = text.partition("=")
        name = key.lstrip("+~")
        if re.match(r"hydra([./@]|$)", name):
            raise UsageError(f"{name} {NO_HYDRA}")
        if not name or not (has_value or key.startswith("~")):
            raise UsageError(f"{text!r} is not an override: write key=value (see --help)")
        try:
            return OverridesParser.create(self.loader).parse_overrides([text])[0]
        except ERRORS as error:
            said = "the value" if secrets.is_secret(name) else f"{text!r}: {_one_line(error)}; the value"
            raise UsageError(f"cannot read {said} of {name} may need quotes: '{name}=\"…\"'") from None

    def check(self, override: Override) -> None:
        """Refuse a group or an option that does not exist, and a sweep without values."""
        group, line = override.key_or_group, _line(override)
        if group in SWEEP_GROUPS:
            raise UsageError(f"{line} names the runs of a sweep: corridor-sweep {line}")
        if group == targets.SETTING:  # in a file, such as a figure's: the key of a command line was taken out before
            raise UsageError(f"{targets.SETTING} is no key of a run: write {targets.SETTING}=[PREFIX] as an argument")
        values = _values(override)
        if not self.chooses(override) or (override.is_delete() and "/" in group):
            return
        if override.is_delete():
            raise UsageError(f"{line}: every run has an option of {group}; write {group}=OPTION")
        is_ours, is_added = group in our_groups(), override.is_add() or override.is_force_add()
        if override.package or is_added == is_ours:
            if is_ours:
                raise UsageError(f"{line}: {group} has an option already; to choose another one, write {group}=OPTION")
            raise UsageError(f"{line}: {group} is a group of your own, and adds to a run: write +{line}")
        for value in values:
            self._check_option(group, value if isinstance(value, list) else [value])

    def _check_option(self, group: str, options: list[Any]) -> None:
        known = self.groups[group]
        for option in options:
            if option not in known:
                close = suggestion(str(option), known)
                raise UsageError(f"{group}={option}: no such option{close} ({group} is one of: {', '.join(known)})")
        if group not in self.several and len(options) != 1:
            raise UsageError(f"{group}={options}: a run has one {group}; -m {group}={','.join(options)} runs each")

    def chooses(self, override: Override) -> bool:
        """Whether it chooses an option of a group; `optim={lr: 1}` sets keys instead."""
        return override.key_or_group in self.groups and not isinstance(override.value(), dict)

    def job(self, overrides: list[Override]) -> Config:
        """Compose the chosen options, then set the values in the order of the command line, then check."""
        files, pickled, choices = self.chosen(tuple(str(o.input_line) for o in overrides if self.chooses(o)))
        config = pickle.loads(pickled)  # a copy: copy.deepcopy takes ten times as long
        for override in overrides:
            if not self.chooses(override):
                _set(override, config, files)
        try:
            composed: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        except ERRORS as error:
            raise UsageError(_one_line(error)) from None
        parsed = Config.parse(composed, choices)
        self._refuse_another_name(config, choices)
        return parsed

    def _refuse_another_name(self, config: DictConfig, choices: dict[str, str]) -> None:
        """Refuse to give an option the name of another one: tables and figures tell methods apart by their names."""
        for group in ("dataset", "model", "optim", "optim/schedule"):
            key, chosen = group.replace("/", ".") + ".name", choices.get(group)
            name = OmegaConf.select(config, key)
            if name != chosen and name in self.groups[group]:
                raise UsageError(f"{key}={name} would only rename {chosen}; to choose: {group}={name}")

    def _chosen(self, lines: tuple[str, ...]) -> tuple[DictConfig, bytes, dict[str, str]]:
        """What the files of the chosen options hold, the same pickled, and the option of each group that has one."""
        search = [f"hydra.searchpath=[{quoted(f'file://{folder}')}]" for folder in self.folders[1:]]
        try:
            config = compose("config", [*lines, *search], return_hydra_config=True)
            choices: Any = OmegaConf.to_container(config.hydra.runtime.choices)
            with open_dict(config):
                del config["hydra"]
                for group in ("dataset", "model", "optim"):
                    _name(config[group], group, choices[group])
        except ERRORS as error:
            for key in [self.parse(line).key_or_group for line in lines]:
                group, _, part = key.rpartition("/")
                if group and f"'{key}'" in str(error):
                    raise UsageError(f"{key}: the chosen {group} option has no {part} to choose") from None
            said = in_words(error) if isinstance(error, yaml.YAMLError) else _one_line(error)
            raise UsageError(f"cannot compose {' '.join(lines)}: {said}") from None
        return config, pickle.dumps(config), choices


def _name(option: Any, group: str, chosen: str) -> None:
    """Name an option after its file if it has no name, or only the name of the option that it is based on."""
    if isinstance(option, DictConfig):
        name, ours = option._get_node("name"), our_groups()[group]
        if name is None or (chosen not in ours and name._value() in ours):
            option.name = chosen


def _set(override: Override, config: DictConfig, files: DictConfig) -> None:
    """Set, add or delete a value, as Hydra does it."""
    key = override.key_or_group
    try:
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
    except ERRORS as error:
        known: Any = OmegaConf.to_container(files)
        value = override.value()
        for set_key in [f"{key}.{name}" for name in value] if isinstance(value, dict) else [key]:
            if set_key not in dict(nodes(known)) and not override.is_add():
                raise UsageError(unknown_key(set_key, {**known, **NOT_OF_A_RUN})) from None
        raise UsageError(f"{key}: {_one_line(error.__cause__ or error)}") from None


def _values(override: Override) -> list[Any]:
    """The value of an override, or all values of a sweep, up to one more than a grid may have."""
    value = override.value()
    if not override.is_sweep_override():
        return [value]
    try:
        values = iter(value.range()) if isinstance(value, RangeSweep) else override.sweep_iterator()
        found = list(islice(values, MOST_RUNS + 1))
    except ERRORS as error:
        raise UsageError(f"{_line(override)}: {_one_line(error)}") from None
    if not found:
        raise UsageError(f"{_line(override)} has no value")
    return found


def _line(override: Override) -> str:
    """The override as it was typed, without secrets."""
    return secrets.redact_argument(str(override.input_line))


def _product(overrides: list[Override]) -> list[list[str]]:
    """The jobs of a grid. If a key is set twice, the later value holds."""
    last = {override.get_key_element(): override for override in overrides}
    if prod(len(_values(override)) for override in last.values()) > MOST_RUNS:
        raise UsageError(f"this grid has more than {MOST_RUNS:,} runs; cut it into several sweeps")
    return BasicSweeper.split_arguments(list(last.values()), None)[0]


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else _one_line(error.__cause__) if error.__cause__ else type(error).__name__


def quoted(text: str) -> str:
    """A value that Hydra's grammar reads back as exactly this string."""
    return "'" + re.sub(r"(\\+)('|$)", r"\1\1\2", text).replace("'", r"\'") + "'"


def folder_of_sweep(text: str) -> str:
    """`out_dir=DIR` of a whole sweep. The value is read as in a single run."""
    with opened() as conf:
        override = conf.parse(text)
    if override.is_sweep_override():
        raise UsageError("out_dir is the folder of the whole sweep, and cannot be swept itself")
    try:
        value = OmegaConf.create({"out_dir": override.value()}).out_dir  # without its interpolations
    except OmegaConfBaseException as error:
        raise UsageError(f"out_dir: {_one_line(error)}") from None
    if isinstance(value, DictConfig | ListConfig):
        raise UsageError("out_dir is the name of one folder")
    return f"out_dir={'' if value is None else value}"
