"""The report: a folder of runs as one HTML page that needs nothing else, neither files nor network.

`page/report.html` is what a browser shows, written by Jinja from what is read here; `page/report.js` adds sorting,
filters, curves and differences, from the JSON that stands in the page. Whatever a folder holds, a run that cannot be
read is shown as such: the report is where one looks when something went wrong.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

import corridor_exp
from corridor_exp.config.differences import varied_keys, written_keys
from corridor_exp.config.secrets import redact
from corridor_exp.runs import reading, records
from corridor_exp.runs.series import Epochs

PAGE = Path(__file__).parent / "page"
RESULTS = {
    "steps": "steps",
    records.TRAIN_EPOCH_LOSS: "epoch loss",
    records.TEST_ACCURACY: "test accuracy",
    records.TRAIN_LR: "last h",
    "seconds": "seconds",
}
FEW_KEYS = 8
LONGEST = 1_000  # points of one curve: more than a screen has pixels for
POINTS = 30_000  # of one metric over all runs, which keeps a page of 300 runs at a few MB
DIGITS = 6

Point = tuple[int, Any]  # a step, and a number, None, or "nan", "inf", "-inf"


@dataclass
class Run:
    """What a run directory holds, as far as it can be read; `remarks` say what cannot, or what went wrong."""

    path: str
    status: str
    complaint: str = ""  # what of its directory cannot be read
    remarks: list[str] = field(default_factory=list)
    config: dict[str, str] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    commit: str | None = None
    version: str | None = None
    clock: list[tuple[int, float]] = field(default_factory=list)  # steps, and the seconds passed by then
    epoch_ends: list[tuple[int, int]] = field(default_factory=list)
    curves: dict[str, list[Point]] = field(default_factory=dict)
    thinned: bool = False

    def cell(self, key: str) -> str:
        value = self.results.get(key)
        return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def read_run(folder: Path, path: str, longest: int = LONGEST) -> Run:
    """Read a run; a curve of more than `longest` points is thinned."""
    stored = reading.read(folder)
    run = Run(path, stored.status, remarks=list(stored.faults), complaint=stored.complaint)
    run.config = written_keys(stored.config)
    _take_records(stored, run)
    _take_summary(stored.summary, run)
    run.thinned = any(len(curve) > longest for curve in run.curves.values())
    run.curves = {key: thin(curve, longest) for key, curve in run.curves.items()}
    run.clock = list(dict.fromkeys(run.clock[:: len(run.clock) // longest + 1] + run.clock[-1:]))
    return run


def _take_records(stored: reading.Stored, run: Run) -> None:
    """Fill in the curves, and the last values as results."""
    run.epoch_ends = Epochs(stored.records).ends
    for record in stored.records:
        step, seconds = record["step"], record["time"]
        for key, value in record.items():
            if key not in ("step", "epoch", "time"):
                run.curves.setdefault(key, []).append((step, _rounded(value)))
                if value is not None:
                    run.results[key] = value
        run.clock.append((step, seconds))
        run.results.update(steps=step + 1, seconds=seconds)
    if stored.torn:
        run.remarks.append(f"the last line of {records.RECORDS_FILE} is torn")
    if not stored.records:
        run.remarks.append("no record yet")


def _take_summary(summary: dict[str, Any], run: Run) -> None:
    """Fill in how the run ended. Its step and metrics are newer than those of the last record."""
    run.commit, run.version = summary.get("git_commit"), summary.get("versions", {}).get("corridor_exp")
    run.results.update({k: v for k, v in summary.get("metrics", {}).items() if v is not None})
    run.results.update({k: summary[s] for k, s in (("steps", "step"), ("seconds", "seconds")) if s in summary})
    if summary.get("error"):
        run.remarks.insert(0, redact(summary["error"]))


def _rounded(value: float | None) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def thin(curve: Sequence[Point], longest: int) -> list[Point]:
    """At most `longest` of the points, in order: both ends, and of each stretch the extremes and a non-finite one.

    So a spike stays, which an average or every n-th point would hide.
    """
    if len(curve) <= longest:
        return list(curve)
    inner = range(1, len(curve) - 1)
    stretches = (longest - 2) // 3
    kept = {0, len(curve) - 1}
    for number in range(stretches):
        stretch = inner[number * len(inner) // stretches : (number + 1) * len(inner) // stretches]
        numbers = [i for i in stretch if _is_number(curve[i][1])]
        kept.update(next(([i] for i in stretch if not _is_number(curve[i][1])), []))
        if numbers:
            kept.update((min(numbers, key=lambda i: curve[i][1]), max(numbers, key=lambda i: curve[i][1])))
    return [curve[i] for i in sorted(kept)]


def _is_number(value: float | None) -> bool:
    return value is not None and abs(value) < float("inf")


# ------------------------------------------------------------------------- the page


def write(directory: Path, out: Path, figures_in: Sequence[Path] = ()) -> list[Run]:
    """Write the page over `directory` to `out`, and return the runs on it.

    Figures and claims are those of the first of the folders `figures_in` that has some.
    """
    folders = reading.find(directory)
    longest = min(LONGEST, POINTS // max(len(folders), 1))
    runs = [read_run(f, f.relative_to(directory).as_posix(), longest) for f in folders]
    for run in runs:
        run.path = directory.resolve().name if run.path == "." else run.path
    records.write_atomically(out, page(directory, runs, longest, figures_in).encode(errors="backslashreplace"))
    return runs


def page(directory: Path, runs: Sequence[Run], longest: int = LONGEST, figures_in: Sequence[Path] = ()) -> str:
    """The page as text."""
    style, script = ((PAGE / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    templates = Environment(loader=PackageLoader("corridor_exp.figures", "page"), autoescape=True, trim_blocks=True)
    metrics = sorted({key: None for run in runs for key in run.curves}, key=_metric_order)
    figures = next(filter(None, (list(find_figures(folder)) for folder in figures_in)), None)
    claims = next(filter(None, map(read_claims, figures_in)), None)
    return templates.get_template("report.html").render(
        title=f"Runs in {directory}",
        runs=runs,
        statuses=dict(Counter(run.status for run in runs).most_common()),
        time=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=corridor_exp.__version__,
        versions=sorted({run.version for run in runs if run.version}),
        commits=sorted({run.commit for run in runs if run.commit}),
        keys=varied_keys(run.config for run in runs),
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
        data=Markup(_json_in_script({"runs": _for_browser(runs)})),
    )


def _metric_order(key: str) -> tuple[int, int]:
    """Training, test, probes, anything else; the many layers last. Within these, as the records have them."""
    rooms = ("train/", "test/", "probe/")
    return key.startswith(records.LAYER_HG_NORM), next(
        (i for i, r in enumerate(rooms) if key.startswith(r)), len(rooms)
    )


def _for_browser(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What the script needs of each run. Keys that all configurations share are in no difference of two."""
    everywhere = set.intersection(*[set(run.config.items()) for run in runs if run.config] or [set()])
    return [
        {
            "path": run.path,
            "config": {k: v for k, v in run.config.items() if (k, v) not in everywhere} if run.config else None,
            "epoch_ends": run.epoch_ends,
            "clock": [list(axis) for axis in zip(*run.clock, strict=True)] or [[], []],
            **_curves_for_browser(run),
        }
        for run in runs
    ]


def _curves_for_browser(run: Run) -> dict[str, Any]:
    """`curves[metric] = [i, values]`, whose steps are `steps[i]`: metrics recorded together share theirs."""
    steps: dict[tuple[int, ...], int] = {}
    curves = {
        key: [steps.setdefault(tuple(step for step, _ in curve), len(steps)), [value for _, value in curve]]
        for key, curve in run.curves.items()
    }
    return {"steps": list(steps), "curves": curves}


def _json_in_script(value: Any) -> str:
    """JSON that no text in it can end the script element early."""
    return records.to_json(value).replace("<", "\\u003c")


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# ------------------------------------------------------------------------- figures and claims


@dataclass(frozen=True)
class Picture:
    """A PNG of `corridor-figures`, and the caption that lies beside it as text."""

    path: Path
    caption: str

    @property
    def uri(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.path.read_bytes()).decode()}"


def find_figures(folder: Path) -> Iterator[Picture]:
    """`fig1.png`, `fig2.png`, … of a folder."""
    for path in sorted(folder.glob("fig*.png"), key=lambda path: (len(path.stem), path.stem)):
        text = path.with_suffix(".txt")
        yield Picture(path, text.read_text(encoding="utf-8").strip() if text.exists() else path.stem)


def read_claims(folder: Path) -> list[dict[str, str]] | None:
    """The rows of `claims.json`, each value as text; None where there is no such file or it holds something else."""
    try:
        claims = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
        return [
            {key: _as_text(claim.get(key)) for key in ("figure", "statement", "statistic", "verdict", "values")}
            for claim in claims
        ]
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_as_text(v)}" for key, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_as_text, value))
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
