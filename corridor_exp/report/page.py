"""The report: a folder of runs as one HTML page that needs nothing else, neither files nor network.

`assets/report.html` is what a browser shows, written by Jinja from what is read here. The scripts beside it add
sorting, groups, filters, curves and differences, from the JSON that stands in the page. Whatever a folder holds, a run
that cannot be read is shown as such: the report is where one looks when something went wrong.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

import corridor_exp
from corridor_exp.config.commands import commands
from corridor_exp.config.differences import varied_keys
from corridor_exp.files import to_json, write_atomically
from corridor_exp.report.columns import Columns
from corridor_exp.report.pictures import find_figures, read_claims
from corridor_exp.report.rows import DIGITS, LONGEST, Row, row
from corridor_exp.runs import reading, records
from corridor_exp.runs.layout import find

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("data", "groups", "table", "axes", "plot", "curves", "scatter", "differences", "wiring")
RESULTS = {
    records.TRAIN_EPOCH_LOSS: "epoch loss",
    records.TEST_ACCURACY: "test accuracy",
    records.TRAIN_LR: "last h",
    "steps": "steps",
    "seconds": "seconds",
}
# What tells runs apart, in the order in which a reader asks for it; how a run was done comes last.
KEYS_IN_ORDER = ("optim.name", "optim.lr", "optim.", "model.", "dataset.", "batch_size", "l2", "epochs", "seed")
HOW_IT_WAS_DONE = ("engine.", "logger.", "probe.", "checkpoint.", "log_every", "eval_every", "fork_from")
FEW_KEYS = 8
POINTS = 30_000  # of one metric over all runs, which keeps a page of 300 runs at a few MB


def write(directory: Path, out: Path, figures_in: Sequence[Path] = ()) -> list[Row]:
    """Write the page over the runs below `directory` to `out`, and return what stands on it.

    Figures and claims are those of the first of the folders `figures_in` that has some.
    """
    folders = find(directory)
    longest = min(LONGEST, POINTS // max(len(folders), 1))
    rows, trees = [], []
    for folder in folders:  # one at a time, as the records of one may fill the memory
        run = reading.read(folder, (columns := Columns()).take)
        rows.append(row(run, columns, _name(folder, directory), _link(folder, out), longest))
        trees.append(run.tree)
    rows = [replace(row, command=command) for row, command in zip(rows, commands(trees), strict=True)]
    write_atomically(out, page(directory, rows, longest, figures_in).encode(errors="backslashreplace"))
    return rows


def _name(folder: Path, directory: Path) -> str:
    return folder.relative_to(directory).as_posix() if folder != directory else directory.resolve().name


def _link(folder: Path, page: Path) -> str:
    """The folder's address relative to the page, so that both can be moved together."""
    return quote(os.path.relpath(folder.resolve(), page.resolve().parent), errors="surrogateescape")


def page(directory: Path, runs: Sequence[Row], longest: int = LONGEST, figures_in: Sequence[Path] = ()) -> str:
    """The page as text."""
    style = _asset("report.css")
    script = '"use strict";\n' + "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    templates = Environment(loader=PackageLoader("corridor_exp.report", "assets"), autoescape=True, trim_blocks=True)
    metrics = sorted({key: None for run in runs for key in run.curves}, key=_metric_order)
    figures = next(filter(None, (list(find_figures(folder)) for folder in figures_in)), None)
    claims = next(filter(None, map(read_claims, figures_in)), None)
    keys = sorted(varied_keys(run.config for run in runs), key=_key_order)
    return templates.get_template("report.html").render(
        title=f"Runs in {directory}",
        runs=runs,
        statuses=dict(Counter(run.status for run in runs).most_common()),
        time=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=corridor_exp.__version__,
        versions=sorted({run.version for run in runs if run.version}),
        commits=sorted({run.commit for run in runs if run.commit}),
        keys=keys,
        few_keys=FEW_KEYS,
        results=RESULTS,
        metrics=metrics,
        evaluations=records.TRAIN_EVALUATIONS,
        longest=longest if any(run.thinned for run in runs) else None,
        digits=DIGITS,
        figures=figures,
        claims=claims,
        style=Markup(style),
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        data=htmlsafe_json_dumps({"keys": keys, "results": RESULTS, "runs": _for_browser(runs)}, dumps=to_json),
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _key_order(key: str) -> int:
    places = [i for i, begin in enumerate(KEYS_IN_ORDER) if key.startswith(begin)]
    return min(places, default=len(KEYS_IN_ORDER) + key.startswith(HOW_IT_WAS_DONE))


def _metric_order(key: str) -> tuple[int, int]:
    """Training, test, probes, anything else; the many layers last. Within these, as the records have them."""
    rooms = ("train/", "test/", "probe/")
    return key.startswith(records.LAYER_HG_NORM), next(
        (i for i, r in enumerate(rooms) if key.startswith(r)), len(rooms)
    )


def _for_browser(runs: Sequence[Row]) -> list[dict[str, Any]]:
    """What the script needs of each run. Keys that all configurations share are in no difference of two."""
    everywhere = set.intersection(*[set(run.config.items()) for run in runs if run.config] or [set()])
    return [
        {
            "path": run.path,
            "config": {k: v for k, v in run.config.items() if (k, v) not in everywhere} if run.config else None,
            "status": run.status,
            "results": {k: v for k, v in run.results.items() if not k.startswith(records.LAYER_HG_NORM)},
            "epoch_ends": run.epoch_ends,
            "clock": [list(axis) for axis in zip(*run.clock, strict=True)] or [[], []],
            **_curves_for_browser(run),
        }
        for run in runs
    ]


def _curves_for_browser(run: Row) -> dict[str, Any]:
    """`curves[metric] = [i, values]`, whose steps are `steps[i]`: metrics recorded together share theirs."""
    steps: dict[tuple[int, ...], int] = {}
    curves = {
        key: [steps.setdefault(tuple(step for step, _ in curve), len(steps)), [value for _, value in curve]]
        for key, curve in run.curves.items()
    }
    return {"steps": list(steps), "curves": curves}


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
