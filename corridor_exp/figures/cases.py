"""The cases of the map: how runs end beside the best fixed rate, and what was read early.

The rules, fixed before the runs, are in docs/when-clr-works.md.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from corridor_exp.runs import records
from corridor_exp.runs.layout import ENDED, Status
from corridor_exp.runs.reading import NOT_EXPERIMENT, Run
from corridor_exp.runs.records import Record
from corridor_exp.runs.thinned import is_early, is_late, steps_of

MARGIN = 1.25  # of the loss over the best rate's loss; a case within it is a tie
ZERO = 1e-4  # a smaller loss counts as this
BELOW, TIE, ABOVE = "below", "tie", "above"
CLR, CAPPED, TRUST, SGD = "CLR", "CLR, cap 1", "clr_trust", "SGD"
NEEDED = "dataset.name", "model.width", "batch_size", "max_steps", "optim.name"  # keys that a run of the map has
COMPLETE = {CLR: 2, CAPPED: 1, TRUST: 1, SGD: 5}  # runs of a setting, by method


@dataclass(frozen=True)
class Case:
    """One run without a tuned rate, beside the best fixed rate of its setting."""

    data: str
    setting: str
    method: str
    seed: int
    outcome: str
    loss: float
    best_loss: float
    predictors: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.loss / self.best_loss


def end(run: Run) -> float:
    """L: the mean loss of the last tenth of the steps. It is infinite if the run diverged.

    A run that ended before had reached a loss of exactly 0, where it would have stayed.
    """
    if run.status == Status.DIVERGED:
        return math.inf
    losses = [r[records.TRAIN_LOSS] for r in run.records if is_late(r, steps_of(run))]
    return max(ZERO, statistics.fmean(losses)) if losses else ZERO


def outcome(loss: float, best: float) -> str:
    if loss <= best / MARGIN:
        return BELOW
    return ABOVE if loss >= best * MARGIN else TIE


# ------------------------------------------------------------------ what is read early


def _of(key: str) -> Callable[[Record], float | None]:
    return lambda look: look.get(key)


def _edge(look: Record) -> float | None:
    h, sharpness = look.get(records.CLR_STEP), look.get(records.SHARPNESS)
    return None if h is None or sharpness is None else h * sharpness / 2


def _noise(look: Record) -> float | None:
    ratio = look.get(records.GROWTH_RATIO, math.nan)  # null: noise hides the gradient
    return math.inf if ratio is None else None if math.isnan(ratio) else ratio


def _bound(look: Record) -> float | None:
    index = look.get(records.SECANT_CORRIDOR_INDEX)
    return None if index is None else index / 2


def _contraction(look: Record) -> float | None:
    taken = look.get(records.DECREASE_RATIO)
    return None if taken is None else 1 - taken


PRIMARY = "contraction bound"
PLAIN = "early loss", "batch size", "width"
OF_A_LOOK: dict[str, Callable[[Record], float | None]] = {
    PRIMARY: _bound,
    "contraction": _contraction,
    "tangent index": _of(records.CORRIDOR_INDEX),
    "hλ/2": _edge,
    "‖Hg‖": _of(records.HG_NORM),
    "noise": _noise,
    "early loss": _of(records.TRAIN_LOSS),
}
PREDICTORS = (*OF_A_LOOK, "batch size", "width")


def predictors(run: Run) -> dict[str, float]:
    """The predictors in the first steps of a run, as medians. A value that is not finite counts as infinite."""
    early = [r for r in run.records if is_early(r, steps_of(run))]
    found = {name: [v for r in early if (v := read(r)) is not None] for name, read in OF_A_LOOK.items()}
    batch = run.config["batch_size"]
    if batch == "full":
        batch = run.summary["train_images"]
        found["noise"] = [1.0]
    values = {
        name: statistics.median(v if math.isfinite(v) else math.inf for v in seen)
        for name, seen in found.items()
        if seen
    }
    return values | {"batch size": float(batch), "width": float(run.config["model.width"])}


# ------------------------------------------------------------------ from runs to cases


def method(run: Run) -> str:
    name, cap = run.config["optim.name"], run.config.get("optim.step_cap")
    return {"sgd": SGD, "clr_trust": TRUST}.get(name) or (CLR if cap is None else CAPPED)


def setting(run: Run) -> str:
    """The configuration that all runs of a setting share: without the optimizer and the seed."""
    keys = sorted(key for key in run.config if not NOT_EXPERIMENT.fullmatch(key) and not key.startswith("optim."))
    return " ".join(f"{key}={run.config[key]}" for key in keys if run.config[key] is not None)


def cases(runs: Iterable[Run]) -> tuple[list[Case], Counter[str]]:
    """The cases of all settings that take part. Also the number of settings that do not, by reason."""
    by_setting: dict[str, list[Run]] = {}
    for run in runs:
        by_setting.setdefault(setting(run), []).append(run)
    found, left_out = [], Counter[str]()
    for name, members in sorted(by_setting.items()):
        data = str(members[0].config["dataset.name"])
        if any(run.status not in ENDED for run in members) or Counter(map(method, members)) != COMPLETE:
            left_out[f"{data}: not complete"] += 1
            continue
        sgd = {run.config["optim.lr"]: end(run) for run in members if method(run) == SGD}
        best = min(sgd, key=lambda rate: (sgd[rate], rate))
        if best in (min(sgd), max(sgd)):
            left_out[f"{data}: best rate at the edge"] += 1
            continue
        found += [_case(run, data, name, sgd[best]) for run in members if method(run) != SGD]
    return found, left_out


def _case(run: Run, data: str, setting: str, best: float) -> Case:
    loss, kind = end(run), method(run)
    early = predictors(run) if kind == CLR else {}
    return Case(data, setting, kind, run.seed or 0, outcome(loss, best), loss, best, early)


def decided(found: Sequence[Case], data: str) -> list[Case]:
    """The cases to predict: under CLR, on these data, without ties."""
    return [case for case in found if case.data == data and case.method == CLR and case.outcome != TIE]
