"""Where the runs of a figure lie: the newest sweep of it, the reference, or a folder that the user names."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from corridor_exp.config.options import CONF_DIR
from corridor_exp.config.settings import SCALES_OF_FIGURES
from corridor_exp.errors import UsageError
from corridor_exp.runs.groups import Runs
from corridor_exp.sweeps.frozen import Sweep
from corridor_exp.sweeps.grids import load_figure

log = logging.getLogger(__name__)
OUTPUTS, REFERENCE = Path("outputs"), Path("outputs/reference")


def known_figures() -> list[str]:
    return sorted(file.stem for file in CONF_DIR.glob("figure/*.yaml"))


def find(name: str, place: Path | None) -> Runs | None:
    """What a figure shows: its own runs, and beside them those that it shares with other figures, all of one scale.

    A figure without grids of its own shows the runs of the others, unless they were made by its own command.
    """
    figure, own = load_figure([CONF_DIR], name), _newest(name, place)
    if own is None and figure.grids:
        return None
    if own and not (own.figure and figure.runs and figure.grids):
        return own
    parts, lacking = [own] if own else [], []
    for other in figure.runs.split():
        runs = _newest(other, place, parts[0].scale if parts else None)
        if runs and runs.figure:
            parts.append(runs.among(optim__name=figure.optim) if figure.optim else runs)
        elif own:
            lacking.append(other)
    return Runs.together(name, parts, lacking) if parts else None


def _newest(name: str, place: Path | None, scale: str | None = None) -> Runs | None:
    """A figure's own runs: in `place` or its folder of that name; or the newest sweep of it, or the reference.

    Of a certain scale, if one is named. Runs that say nothing of a figure may be anyone's.
    """
    if place is None:
        folders = [folder for pattern in (name, f"{name}-*") for folder in OUTPUTS.glob(f"{pattern}/sweep-*")]
        sweeps = sorted(_sweeps(folders), key=lambda sweep: sweep.time, reverse=True)
        places = [*(sweep.directory for sweep in sweeps), *_places(name, REFERENCE)]
    else:
        places = _places(name, place)
    found = (runs for runs in map(Runs.read, places) if runs and runs.figure in (name, None))
    return next((runs for runs in found if scale in (runs.scale, None)), None)


def _places(name: str, folder: Path) -> list[Path]:
    """Where a figure's runs may lie: in its folder, or in its folder within a scale's; or `folder` is their sweep."""
    folders = [folder, *(folder / scale for scale in SCALES_OF_FIGURES)]
    if any((place / figure).is_dir() for place in folders for figure in known_figures()):
        return [place / name for place in folders]
    return [folder]


def _sweeps(folders: list[Path]) -> Iterator[Sweep]:
    """Those that can be read; the others are told."""
    for folder in folders:
        try:
            sweep = Sweep.open(folder)
        except UsageError as error:
            log.warning("%s", error)
        else:
            if sweep:
                yield sweep
