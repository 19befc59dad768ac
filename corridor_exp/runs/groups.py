"""Runs as figures and claims need them: grouped by everything but the seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from corridor_exp.config.differences import varied_keys
from corridor_exp.config.settings import UNION, Settings
from corridor_exp.runs import layout, reading, thinned
from corridor_exp.runs.layout import ENDED, Status
from corridor_exp.runs.reading import NOT_EXPERIMENT, Run

LONG_HASH = re.compile(r"(?<=\b[0-9a-f]{12})[0-9a-f]+")  # all but the first letters of a commit
WORDS = {"clr": "CLR", "sgd": "SGD", "batch_size": "batch", "lr": "learning rate", "zero_init": "zero logits"}


@dataclass(frozen=True)
class Runs:
    """The runs of a folder, and what its manifest says about them."""

    directories: list[Path]
    runs: list[Run]
    command: list[str]
    time: str
    commit: str
    lacking: tuple[str, ...] = ()  # other figures whose runs belong here, and were not found

    @classmethod
    def read(cls, directory: Path) -> Runs:
        """The runs that the manifest names, started or not; without one, every run of the folder's files or below it.

        Raises `UsageError` where the manifest cannot be read.
        """
        manifest = reading.manifest_of(directory)
        folders = layout.run_folders(directory, manifest["runs"]) if manifest else []
        runs = [reading.read(folder) for folder in folders] if manifest else thinned.runs_below(directory)
        commits = {str(run.summary["git_commit"]) for run in runs if run.summary.get("git_commit")}
        commit = manifest.get("git_commit") or ", ".join(sorted(commits))
        return cls([directory], runs, manifest.get("command", []), manifest.get("time", ""), commit)

    @classmethod
    def together(cls, figure: str, parts: Sequence[Runs], lacking: Sequence[str] = ()) -> Runs:
        """The runs of several folders as those of one figure, which shows them side by side."""
        return cls(
            [folder for part in parts for folder in part.directories],
            [run for part in parts for run in part.runs],
            [
                f"figure={figure}",
                f"scale={parts[0].scale}",
                *dict.fromkeys(word for part in parts for word in part.changed),
            ],
            max(part.time for part in parts),
            ", ".join(sorted({part.commit for part in parts})),
            tuple(lacking),
        )

    def __bool__(self) -> bool:
        return any(run.records for run in self.runs)

    @property
    def unfinished(self) -> str:
        """How many of the runs have neither completed nor diverged, in words; empty if there is none."""
        count = sum(run.status not in ENDED for run in self.runs)
        return f"{count} of {len(self.runs)} runs are not finished" if count else ""

    @cached_property
    def _chosen(self) -> dict[str, str]:
        return dict(word.partition("=")[::2] for word in self.command)

    @property
    def figure(self) -> str | None:
        """The figure that the command was for; None if it was for none."""
        return self._chosen.get("figure")

    @property
    def scale(self) -> str | None:
        return self._chosen.get("scale", "full") if self.figure else None

    @property
    def changed(self) -> list[str]:
        """The words of the command by which the runs are another experiment than the figure's."""
        return [word for word in self.command if self.figure and word != UNION and not _is_technical(word)]

    @property
    def networks(self) -> str:
        """The networks and their data, for example "mlp on digits"."""
        names = [[run.config.get(f"{group}.name") or "?" for group in ("model", "dataset")] for run in self.runs]
        return ", ".join(sorted({f"{model} on {data}" for model, data in names}))

    def where(self, **wanted: Any) -> list[Run]:
        """The runs whose configuration has these values; `__` stands for a dot in a key."""
        keys = {key.replace("__", "."): value for key, value in wanted.items()}
        return [run for run in self.runs if all(run.config.get(key) == value for key, value in keys.items())]

    def among(self, **wanted: Any) -> Runs:
        """The same folder with those runs alone."""
        return replace(self, runs=self.where(**wanted))

    def caption(self, what: str) -> str:
        """What is shown, and where it comes from; nothing of what is not known."""
        changed = f", with {', '.join(self.changed)}" if self.changed else ""
        scale = f"Scale: {self.scale}. " if self.scale else ""
        commit = f"commit {LONG_HASH.sub('', self.commit)}" if self.commit else ""
        places = f"from {', '.join(map(str, self.directories))}"
        number = len(self.runs)
        origin = ", ".join(filter(None, [f"{number} run{'s' * (number != 1)}", self.time[:10], commit, places]))
        known = ", ".join(filter(None, [images_of(self.runs), seeds_of(self.runs)]))
        return f"{what}{changed}. {scale}{'; '.join(filter(None, [known[:1].upper() + known[1:], origin]))}."


def _is_technical(word: str) -> bool:
    """Whether a word of a command says how or where to run, and not what."""
    key = word.lstrip("+~").partition("=")[0]
    of_a_sweep = key in Settings.model_fields or key.startswith("slurm.")
    of_a_run = NOT_EXPERIMENT.fullmatch(key) or NOT_EXPERIMENT.fullmatch(f"{key}.")  # logger=jsonl chooses a group
    return of_a_sweep or bool(of_a_run) or key in ("dataset.download", "dataset.workers")


def images_of(runs: Sequence[Run]) -> str:
    """How many images the runs trained on; empty where that is not known."""
    counts = sorted({run.summary["train_images"] for run in runs if run.summary.get("train_images")})
    ends = " to ".join(f"{count:,}" for count in dict.fromkeys(counts[:1] + counts[-1:]))
    return f"{ends} training images" if counts else ""


def seeds_of(runs: Sequence[Run]) -> str:
    """The seeds of the runs; empty where they are not known."""
    seeds = sorted({run.seed for run in runs if run.seed is not None})
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else ""


def grouped(runs: Sequence[Run], apart_from: str = "seed") -> dict[str, list[Run]]:
    """Runs by a label: the optimizer, its rate, and the keys in which the runs differ, without `apart_from`."""
    differing = [key for key in ("optim.lr", *varied(runs)) if key not in (apart_from, "optim.name")]
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_label(run, differing), []).append(run)
    return groups


def varied(runs: Sequence[Run]) -> list[str]:
    """The keys of the experiment that tell runs apart."""
    return varied_keys(
        {key: repr(value) for key, value in run.config.items() if not NOT_EXPERIMENT.fullmatch(key)} for run in runs
    )


def _label(run: Run, differing: Sequence[str]) -> str:
    optimizer = run.config.get("optim.name") or "run"
    words = [WORDS.get(optimizer, optimizer)]
    for key in dict.fromkeys(differing):
        value, last = run.config.get(key), key.rpartition(".")[2]
        word = WORDS.get(last, last.replace("_", " "))
        if key == "optim.lr" and value is not None:
            words[0] += f" {value:g}"
        elif last == "name":
            words.append(str(value))
        elif value is True:
            words.append(word)
        elif value is not None and value is not False:
            words.append(f"{word} {value:g}" if isinstance(value, float) else f"{word} {value}")
    return ", ".join(words)


def not_complete(groups: dict[str, list[Run]]) -> list[str]:
    """A line for each run that did not complete: a figure names it."""
    return [
        f"{label} seed {run.seed}: {run.status}"
        + (f" in epoch {run.records[-1]['epoch'] + 1}" if run.records and "epoch" in run.records[-1] else "")
        for label, runs in groups.items()
        for run in runs
        if run.status != Status.COMPLETED
    ]
