"""The map: does a number read in CLR's first steps predict whether CLR ends below the best fixed rate?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from corridor_exp.figures import style
from corridor_exp.figures.cases import (
    ABOVE,
    BELOW,
    CLR,
    MARGIN,
    PLAIN,
    PREDICTORS,
    PRIMARY,
    TIE,
    Case,
    cases,
    decided,
)
from corridor_exp.figures.prediction import Estimate, Rule, estimate, resampled
from corridor_exp.runs.reading import Run

FITTED, TESTED = "digits", "cifar10"
ENOUGH = 20  # cases of each class
USEFUL = 0.7  # an AUC
COLOURS = {BELOW: style.COLOURS[1], TIE: "#999999", ABOVE: style.COLOURS[0]}


@dataclass(frozen=True)
class Row:
    """A predictor: its rule from the fitted cases, how well it does there, and on the tested cases (None: untested)."""

    predictor: str
    rule: Rule
    fitted_auc: float
    fitted_accuracy: float
    auc: Estimate | None
    accuracy: Estimate | None
    missing: int  # tested cases without a value

    @property
    def side(self) -> str:
        """On which side of the threshold CLR ends below, by the rule."""
        return "low" if self.rule.sign < 0 else "high"

    def line(self) -> str:
        tested = [_shown(self.auc), _shown(self.accuracy)]
        fitted = f"{self.fitted_auc:6.2f}  {self.fitted_accuracy:8.2f}"
        missing = f"  ({self.missing} cases without a value)" if self.missing else ""
        rule = f"{self.side:>5} {self.rule.threshold:10.4g}"
        return f"{self.predictor:18} {rule}  {fitted}  {tested[0]:18} {tested[1]}{missing}"


@dataclass(frozen=True)
class Map:
    """The cases, the settings left out, a row for each predictor, and the verdict on the primary predictor."""

    cases: list[Case]
    left_out: Counter[str]
    rows: list[Row]
    verdict: str

    @classmethod
    def of(cls, runs: Iterable[Run]) -> Map:
        found, left_out = cases(runs)
        fitted, tested = decided(found, FITTED), decided(found, TESTED)
        if len({case.outcome for case in fitted}) < 2:
            return cls(found, left_out, [], "undecided: the cases of digits have not both outcomes")
        weights = samples(tested)
        rows = transfer(fitted, tested, weights)
        return cls(found, left_out, rows, _verdict(rows, tested, weights))

    def table(self) -> str:
        """The counts, a line for each predictor, and the verdict."""
        lines = ["cases                below   tie  above"]
        for (data, method), outcomes in sorted(_counts(self.cases).items()):
            lines.append(f"{data + ', ' + method:20} {outcomes[BELOW]:5} {outcomes[TIE]:5} {outcomes[ABOVE]:6}")
        lines += [f"settings left out, {reason}: {count}" for reason, count in sorted(self.left_out.items())]
        return "\n".join([*lines, "", *listed(self.rows, "digits", "CIFAR-10"), f"\n{PRIMARY}: {self.verdict}"])


def transfer(fitted: Sequence[Case], tested: Sequence[Case], weights: np.ndarray | None) -> list[Row]:
    """A row for each predictor that the fitted cases have. `weights` are those of `samples(tested)`."""
    return [_row(name, fitted, tested, weights) for name in PREDICTORS if any(name in c.predictors for c in fitted)]


def listed(rows: Sequence[Row], fitted: str, tested: str) -> list[str]:
    """A heading and a line for each row."""
    head = f"{'predictor':18} {'below':>5} {'threshold':>10}  {fitted + ': AUC':>6} {'accuracy':>5}  "
    return [head + f"{tested + ': AUC':18} balanced accuracy", *(row.line() for row in rows)]


def _shown(of: Estimate | None) -> str:
    return "–" if of is None else f"{of.value:.2f} [{of.low:.2f}, {of.high:.2f}]"


def _counts(found: Sequence[Case]) -> dict[tuple[str, str], Counter[str]]:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for case in found:
        counts.setdefault((case.data, case.method), Counter())[case.outcome] += 1
    return counts


def samples(tested: Sequence[Case]) -> np.ndarray | None:
    """Bootstrap samples of the settings, the same for all predictors. None if a class is missing."""
    below = [case.outcome == BELOW for case in tested]
    return resampled([case.setting for case in tested], below) if 0 < sum(below) < len(below) else None


def _row(name: str, fitted: Sequence[Case], tested: Sequence[Case], weights: np.ndarray | None) -> Row:
    values, below = _known(name, fitted)
    rule, once = Rule.fit(values, below), np.ones((1, len(values)))
    auc = accuracy = None
    here = [name in case.predictors for case in tested]
    if weights is not None and any(here):
        seen = *_known(name, tested), weights[:, here]
        auc, accuracy = estimate(rule.auc(*seen)), estimate(rule.accuracy(*seen))
    own = rule.auc(values, below, once)[0], rule.accuracy(values, below, once)[0]
    return Row(name, rule, *own, auc, accuracy, len(here) - sum(here))


def _known(name: str, members: Sequence[Case]) -> tuple[list[float], list[bool]]:
    known = [case for case in members if name in case.predictors]
    return [case.predictors[name] for case in known], [case.outcome == BELOW for case in known]


def _verdict(rows: Sequence[Row], tested: Sequence[Case], weights: np.ndarray | None) -> str:
    counts = Counter(case.outcome for case in tested)
    primary = next(row for row in rows if row.predictor == PRIMARY)
    if weights is None or min(counts[BELOW], counts[ABOVE]) < ENOUGH or not primary.auc or not primary.accuracy:
        return f"undecided: {counts[BELOW]} cases below and {counts[ABOVE]} above, and {ENOUGH} of each are needed"
    if primary.auc.high < USEFUL:
        return f"no useful prediction: the AUC's interval ends below {USEFUL}"
    if min(primary.auc.low, primary.accuracy.low) <= 0.5:
        return "undecided: an interval reaches down to ½"
    return f"predicts; {_beyond(rows, primary, tested, weights)}"


def _beyond(rows: Sequence[Row], primary: Row, tested: Sequence[Case], weights: np.ndarray) -> str:
    """Whether the primary predictor says more than the plain number that did best on digits."""
    plain = max((row for row in rows if row.predictor in PLAIN), key=lambda row: row.fitted_auc)
    values = []
    for row in (primary, plain):
        here = [row.predictor in case.predictors for case in tested]
        values.append(row.rule.auc(*_known(row.predictor, tested), weights[:, here]))
    more = estimate(values[0] - values[1])
    word = "beyond" if more.low > 0 else "not shown beyond"
    return f"{word} the plain {plain.predictor}: its AUC is {_shown(more)} higher"


# ------------------------------------------------------------------ the figure


@dataclass(frozen=True)
class Point:
    """A plotted case: the primary predictor, and the final loss over that of the best rate."""

    data: str
    setting: str
    seed: int
    predictor: float
    ratio: float
    outcome: str


def draw(drawn: Map) -> tuple[Figure, list[Point]]:
    """Left: each case by its predictor and its ratio. Right: the AUC of every predictor on the tested data."""
    points = [
        Point(c.data, c.setting, c.seed, c.predictors[PRIMARY], c.ratio, c.outcome)
        for c in drawn.cases
        if c.method == CLR and PRIMARY in c.predictors
    ]
    with mpl.rc_context(style.RC):
        figure = style.new_figure(3.2)
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        _scatter(left, points, drawn.rows)
        _ranking(right, drawn.rows)
        said = f"{PRIMARY} in the first 5 % of the steps: {drawn.verdict}"
        style.finish(figure, "When does CLR work?", [said], [])
    return figure, points


def _scatter(axis: Axes, points: Sequence[Point], rows: Sequence[Row]) -> None:
    for data, marker, filled in ((FITTED, "o", False), (TESTED, "s", True)):
        for outcome, colour in COLOURS.items():
            some = [p for p in points if (p.data, p.outcome) == (data, outcome)]
            if not some:
                continue
            x, y = [min(max(p.predictor, 1e-2), 1e3) for p in some], [min(max(p.ratio, 1e-3), 1e3) for p in some]
            label = f"CLR {outcome}, {data}"
            face = colour if filled else "none"
            axis.plot(x, y, marker, color=colour, markerfacecolor=face, markersize=3.5, label=label, alpha=0.8)
    axis.axhspan(1 / MARGIN, MARGIN, color="#999999", alpha=0.2, linewidth=0)
    threshold = next((row.rule.threshold for row in rows if row.predictor == PRIMARY), None)
    if threshold is not None:
        axis.axvline(threshold, color="black", linestyle="--", linewidth=0.8)
    axis.set(xscale="log", yscale="log", xlabel=f"{PRIMARY} (dashed: threshold from digits)")
    style.plain_ticks(axis.xaxis)
    axis.set_ylabel("final loss of CLR / of the best rate\n(top: 1,000 and more, or diverged)")


def _ranking(axis: Axes, rows: Sequence[Row]) -> None:
    ordered = sorted(rows, key=lambda row: row.auc.value if row.auc else row.fitted_auc)
    for place, row in enumerate(ordered):
        colour = "black" if row.predictor == PRIMARY else "#777777" if row.predictor in PLAIN else style.COLOURS[2]
        axis.plot(row.fitted_auc, place, "o", color=colour, markerfacecolor="none", markersize=4)
        if row.auc:
            axis.plot([row.auc.low, row.auc.high], [place, place], color=colour)
            axis.plot(row.auc.value, place, "s", color=colour, markersize=4)
    axis.axvline(0.5, color="black", linewidth=0.8)
    axis.set_yticks(range(len(ordered)), [row.predictor for row in ordered])
    axis.set(xlabel="AUC: square CIFAR-10, circle digits", xlim=(0, 1.02))
