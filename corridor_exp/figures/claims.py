"""The paper's empirical claims, each with a statistic, a margin and a rule fixed before the runs, in docs/rules.md.

Reproduced: every seed passes the margin. Not reproduced: every seed fails it the other way. Else undecided; and so it
is where a run is missing, where the best rate sits at the edge of the sweep, where a cap binds, and where the budget
ends too early to tell. The statistic is one number a seed.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from scipy.stats import t as student

from corridor_exp.figures import atlas
from corridor_exp.figures.runs import Run, Runs
from corridor_exp.runs import records
from corridor_exp.runs.records import Record

ByScale = tuple[dict[str, float], float]  # a value by the scale that has its own, and that of any other

SEEDS = 3
FEWEST_IMAGES = 1000
TAU: ByScale = {}, 0.01  # an epoch's mean training loss that counts as zero
TAU_OTHERS: ByScale = {"full": 0.01}, 0.1  # of other networks and of ImageNet, at full scale and at any other
SOONER = 0.15  # log₂ of a ratio of steps: 11 %
BETTER: ByScale = {"full": 0.5}, 2.0  # points of test accuracy
PEAK = 1.5  # the highest bin of h over the first, and over the last
BINS = 10
LOW = 0.05  # loss until which h is looked at: under cross-entropy it rises again after interpolation
CAP_BINDS = 0.05  # share of the steps at the cap
RANGE = 16  # of batch sizes
CLASSES = 10
JUMP = 2.0  # an epoch's loss over the lowest before it, as long as it is above …
LOW_ENOUGH = 0.1
INDICES = records.CORRIDOR_INDEX, records.SECANT_CORRIDOR_INDEX
CORRIDOR = 0.5  # what the corridor index of no convex quadratic is below
LAST = 0.1  # share of the epochs whose test accuracy is averaged


class UndecidedError(Exception):
    """Why the runs cannot tell, whatever their numbers."""


@dataclass(frozen=True)
class Statistic:
    """One value a seed, and which values pass and which fail."""

    values: dict[int, float]
    passes: Callable[[float], bool]
    fails: Callable[[float], bool]
    remark: str = ""
    open: frozenset[int] = frozenset()  # seeds whose budget ended too early to tell


@dataclass(frozen=True)
class Claim:
    figure: str
    statement: str
    statistic: str
    rule: str
    measure: Callable[[Runs], Statistic]
    among: dict[str, str] = field(default_factory=dict)  # what the configurations of the figure's runs must say


@dataclass(frozen=True)
class Verdict:
    """A claim's row in the ledger. The interval is Student's, 95 %, over the seeds."""

    figure: str
    statement: str
    statistic: str
    rule: str
    scale: str | None
    verdict: str
    values: dict[int, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    remark: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(claim: Claim, runs: Runs | None) -> Verdict:
    """The verdict on a claim, from the runs of its figure."""
    row = claim.figure, claim.statement, claim.statistic, claim.rule
    runs = runs and runs.among(**claim.among)
    if not runs:
        return Verdict(*row, None, "undecided", remark="no runs")
    try:
        _require_finished(runs)
        seen = claim.measure(runs)
    except UndecidedError as reason:
        return Verdict(*row, runs.scale, "undecided", remark=str(reason))
    remark, verdict = seen.remark, "undecided"
    if len(seen.values) < SEEDS:
        remark = f"{len(seen.values)} seeds of {SEEDS}" + (f"; {remark}" if remark else "")
    elif all(map(seen.passes, seen.values.values())):
        verdict = "reproduced"
    elif seen.open:
        remark = f"the budget ended too early for seeds {', '.join(map(str, sorted(seen.open)))}"
    elif all(map(seen.fails, seen.values.values())):
        verdict = "not reproduced"
    return Verdict(*row, runs.scale, verdict, seen.values, interval(list(seen.values.values())), remark)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean; None where it has none."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    mean, half = statistics.mean(values), student.ppf(0.975, len(values) - 1) * statistics.stdev(values)
    return mean - half / math.sqrt(len(values)), mean + half / math.sqrt(len(values))


def _require_finished(runs: Runs) -> None:
    """A divergence is a result. A run that failed, that did not end, or that shows a smoke test's images is none."""
    lacking = sum(run.status not in ("completed", "diverged") for run in runs.runs)
    if lacking:
        raise UndecidedError(f"{lacking} of {len(runs.runs)} runs are not finished")
    images = min((run.summary.get("train_images") or FEWEST_IMAGES for run in runs.runs), default=FEWEST_IMAGES)
    if images < FEWEST_IMAGES:
        raise UndecidedError(f"{images} training images decide nothing")


def _at(scales: ByScale, runs: Runs) -> float:
    return scales[0].get(runs.scale or "", scales[1])


# ------------------------------------------------------------------------- what is read off one run


def epoch_ends(run: Run) -> list[int]:
    """How many steps are done at the end of each epoch."""
    return [r["step"] + 1 for r in run.records if records.TRAIN_EPOCH_LOSS in r]


def epoch_losses(run: Run) -> list[float]:
    """An epoch's mean training loss; a divergence is one more, infinite."""
    losses = [r[records.TRAIN_EPOCH_LOSS] for r in run.records if records.TRAIN_EPOCH_LOSS in r]
    return [*losses, math.inf] if run.status == "diverged" else losses


def steps_to(tau: float, run: Run) -> float:
    """T_τ: where ln of the epochs' mean loss, on straight lines between their ends, comes down to ln τ; or infinity."""
    steps, losses = epoch_ends(run), epoch_losses(run)
    number = next((n for n, loss in enumerate(losses) if loss <= tau), None)
    if number is None:
        return math.inf
    if number == 0:
        return steps[0]
    before, after = losses[number - 1], max(losses[number], sys.float_info.min)
    share = math.log(before / tau) / math.log(before / after)
    return steps[number - 1] + share * (steps[number] - steps[number - 1])


def on_its_way(run: Run) -> bool:
    """Whether the loss was lowest in the last tenth of the epochs: more of them might have reached τ."""
    losses = epoch_losses(run)
    return bool(losses) and losses.index(min(losses)) >= len(losses) - max(1, len(losses) // 10)


def final_accuracy(run: Run) -> float:
    """Mean test accuracy over the last tenth of the epochs, in points; −∞ for a run that diverged."""
    if run.status == "diverged":
        return -math.inf
    tested = [(r["epoch"], r[records.TEST_ACCURACY]) for r in run.records if records.TEST_ACCURACY in r]
    if not tested:
        raise UndecidedError("there is no test accuracy")
    epochs = tested[-1][0] + 1
    return 100 * statistics.mean(accuracy for epoch, accuracy in tested if epoch + 1 > epochs * (1 - LAST))


def instability(run: Run) -> float:
    """After the first epoch, the largest of L_e / ln C and, while L_e > 0.1, L_e / (2 min L_{<e}); stable up to 1."""
    losses = epoch_losses(run)
    worst = 0.0
    for number in range(1, len(losses)):
        loss, lowest = losses[number], min(losses[:number])
        jump = loss / lowest / JUMP if loss > LOW_ENOUGH else 0.0
        worst = max(worst, loss / math.log(CLASSES), jump)
    return worst


def step_sizes(run: Run) -> tuple[list[float], int | None]:
    """h of all recorded steps, and how many of them come before the first with E < 0.05; None if no step has that."""
    steps = [r for r in run.records if r.get(records.TRAIN_LR) is not None]
    low = next((number for number, r in enumerate(steps) if r[records.TRAIN_LOSS] < LOW), None)
    return [r[records.TRAIN_LR] for r in steps], low


def rise_and_fall(run: Run) -> float:
    """The peak of h, until the loss is low."""
    h, end = step_sizes(run)
    if end is None:
        raise UndecidedError(f"seed {run.seed} did not reach a loss of {LOW}")
    if end < BINS:
        raise UndecidedError(f"seed {run.seed} has only {end} recorded steps above a loss of {LOW}")
    cap = run.config.get("optim.step_cap")
    if cap and sum(value >= cap * (1 - 1e-6) for value in h[:end]) > CAP_BINDS * end:
        raise UndecidedError(f"the cap binds in more than {CAP_BINDS:.0%} of the steps of seed {run.seed}")
    return peak(h[:end])


def peak(h: Sequence[float]) -> float:
    """The highest of ten bins' median over the higher of the first bin's and the last's; 1 if an end is highest."""
    bins = [statistics.median(h[i * len(h) // BINS : (i + 1) * len(h) // BINS]) for i in range(BINS)]
    return max(bins) / max(bins[0], bins[-1])


def looks_of(run: Run) -> list[Record]:
    looks = [r for r in run.records if all(r.get(key) is not None for key in INDICES)]
    if not looks:
        raise UndecidedError(f"seed {run.seed} has no look with secants to the midpoint: train with probe=corridor")
    return looks


def median_index(looks: Sequence[Record]) -> float:
    """The larger of the two median corridor indices: tangent, and secant."""
    return max(statistics.median(look[key] for look in looks) for key in INDICES)


def nearest_corridor(run: Run) -> float:
    """The median index of the best tenth of training."""
    return min(map(median_index, atlas.tenths(looks_of(run), run.records[-1]["step"] + 1)))


# ------------------------------------------------------------------------- the claims


def _by_seed(runs: Sequence[Run], value: Callable[[Run], float]) -> dict[int, float]:
    """The largest value of each seed's runs."""
    values: dict[int, float] = {}
    for run in runs:
        seed = run.seed or 0
        values[seed] = max(values.get(seed, -math.inf), value(run))
    return values


def _clr(runs: Runs) -> list[Run]:
    found = runs.where(optim__name="clr")
    if not found:
        raise UndecidedError("there is no run under CLR")
    return found


def _by_rate(runs: Sequence[Run]) -> dict[float, list[Run]]:
    rates: dict[float, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.config["optim.lr"]):
        rates.setdefault(run.config["optim.lr"], []).append(run)
    if not rates:
        raise UndecidedError("there is no run under SGD")
    return rates


def _refuse_an_edge(rate: float, rates: Sequence[float]) -> None:
    if rate in (min(rates), max(rates)):
        raise UndecidedError(f"the best rate, {rate:g}, is at the edge of the sweep")


def sooner(tau: ByScale) -> Callable[[Runs], Statistic]:
    """The time to τ under the best rate over that under CLR, as a logarithm.

    The best rate is picked on the same seeds, which favours SGD. A run that does not get there has a lower bound.

    With that bound, its budget, for SGD the statistic is itself one and not negative; with that for CLR not positive.
    """

    def measure(runs: Runs) -> Statistic:
        target = _at(tau, runs)
        clr = _by_seed(_clr(runs), lambda run: steps_to(target, run))
        rates = _with_all_seeds(_by_rate(runs.where(optim__name="sgd", dataset__held_out=None)), set(clr))
        sgd = {rate: _by_seed(members, lambda run: steps_to(target, run)) for rate, members in rates.items()}
        budget = _by_seed(_clr(runs), lambda run: epoch_ends(run)[-1] if epoch_ends(run) else 0)

        def slowness(rate: float) -> tuple[float, float]:
            last = statistics.mean(epoch_losses(run)[-1] for run in rates[rate])
            return statistics.mean(map(math.log2, sgd[rate].values())), last

        best = min(sgd, key=slowness)
        told = f"best rate {best:g}; steps under CLR {_listed(clr)}, under SGD {_listed(sgd[best])}"
        if any(math.isinf(clr[seed]) and math.isinf(sgd[best][seed]) for seed in clr):
            raise UndecidedError(f"the budget ended before either reached {target:g}: {told}")
        _refuse_an_edge(best, list(sgd))
        values = {seed: math.log2(min(sgd[best][seed], budget[seed]) / min(clr[seed], budget[seed])) for seed in clr}
        return Statistic(values, lambda v: v >= SOONER, lambda v: v <= -SOONER, told)

    return measure


def _with_all_seeds(rates: dict[float, list[Run]], seeds: set[int]) -> dict[float, list[Run]]:
    """The rates of the sweep's second stage. The first has one seed of every rate, and only chooses."""
    complete = {rate: runs for rate, runs in rates.items() if seeds <= {run.seed for run in runs}}
    if not complete:
        raise UndecidedError(f"no rate has all of the seeds {', '.join(map(str, sorted(seeds)))}")
    return complete


def tests_better(runs: Runs) -> Statistic:
    clr = _clr(runs)
    own = _by_seed(clr, final_accuracy)
    median_h = statistics.median(value for h, low in map(step_sizes, clr) for value in h[:low])
    sgd = runs.where(optim__name="sgd")
    choosing = _by_rate([run for run in sgd if run.config.get("dataset.held_out")])
    larger = {rate: members for rate, members in choosing.items() if rate > median_h}
    if not larger:
        raise UndecidedError(f"no rate of the sweep is above CLR's median h, {median_h:.3g}")
    best = max(larger, key=lambda rate: statistics.mean(map(final_accuracy, larger[rate])))
    _refuse_an_edge(best, list(choosing))
    on_all_data = [run for run in sgd if not run.config.get("dataset.held_out") and run.config["optim.lr"] == best]
    chosen = _by_seed(_with_all_seeds({best: on_all_data}, set(own))[best], final_accuracy)
    values = {seed: chosen[seed] - own[seed] for seed in own}
    margin = _at(BETTER, runs)
    told = (
        f"rate {best:g}, CLR's median h {median_h:.3g}; accuracy under CLR {_listed(own)}, under SGD {_listed(chosen)}"
    )
    return Statistic(values, lambda v: v >= margin, lambda v: v <= -margin, told)


def warms_up(runs: Runs) -> Statistic:
    clr = _clr(runs)
    whole = _by_seed(clr, lambda run: peak(step_sizes(run)[0]) if len(step_sizes(run)[0]) >= BINS else math.nan)
    told = f"over all steps {_listed(whole)}"
    return Statistic(_by_seed(clr, rise_and_fall), lambda v: v >= PEAK, lambda v: v < PEAK, told)


def converges(tau: ByScale, width: int = 1) -> Callable[[Runs], Statistic]:
    """Steps to τ, of the slowest batch size; their range must be at least `width`."""

    def measure(runs: Runs) -> Statistic:
        clr, target = _clr(runs), _at(tau, runs)
        sizes = {run.config["batch_size"] for run in clr}
        if max(sizes) < width * min(sizes):
            raise UndecidedError(f"batches {min(sizes)} to {max(sizes)} are not a range of {width}")
        short = [run for run in clr if steps_to(target, run) == math.inf]
        failed = {run.seed or 0 for run in short if not on_its_way(run)}
        told = f"τ = {target:g}"
        if short:
            cases = sorted({f"batch {run.config['batch_size']} seed {run.seed}" for run in short})
            told += f"; not reached: {', '.join(cases)}"
        values = _by_seed(clr, lambda run: steps_to(target, run))
        too_early = frozenset(run.seed or 0 for run in short) - failed
        return Statistic(values, math.isfinite, math.isinf, told, too_early)

    return measure


def stable(runs: Runs) -> Statistic:
    return Statistic(_by_seed(_clr(runs), instability), lambda v: v <= 1, lambda v: v > 1)


def near_corridor(runs: Runs) -> Statistic:
    clr = _clr(runs)
    told = f"in the best tenth {_listed(_by_seed(clr, nearest_corridor))}"
    values = _by_seed(clr, lambda run: median_index(looks_of(run)))
    return Statistic(values, lambda v: v < CORRIDOR, lambda v: v >= CORRIDOR, told)


def _listed(values: dict[int, float]) -> str:
    return "/".join(f"{values[seed]:.4g}" for seed in sorted(values))


_SOONER = "log₂(T under the best SGD / T under CLR)", f"≥ {SOONER}"
_STEPS = "steps to τ"
_STABLE = "largest of L/ln C and L/(2 min of L before)", "≤ 1"
_PEAK = "peak of binned h over the higher end", f"≥ {PEAK}"
CIFAR, IMAGENET = {"dataset__name": "cifar10"}, {"dataset__name": "imagenet"}
PLAIN, NORMED = {"model__norm": "none"}, {"model__norm": "batch"}

CLAIMS = [
    Claim("fig2", "CLR reaches zero loss sooner than any fixed rate", *_SOONER, sooner(TAU)),
    Claim("fig2", "a larger rate tests better", "accuracy, SGD − CLR, points", "≥ 0.5 full, ≥ 2 else", tests_better),
    Claim("fig2", "CLR is stable", *_STABLE, stable),
    Claim("fig3", "CLR converges for all batches on ImageNet", _STEPS, "reached", converges(TAU_OTHERS)),
    Claim("fig4", "h warms up, then decays (CIFAR-10)", *_PEAK, warms_up, CIFAR),
    Claim("fig4", "h warms up, then decays (ImageNet)", *_PEAK, warms_up, IMAGENET),
    Claim("fig5", "ResNet-50 converges", _STEPS, "reached", converges(TAU_OTHERS)),
    Claim("fig5", "CLR is stable on ResNet-50", *_STABLE, stable),
    Claim("fig6", "VGG converges", _STEPS, "reached", converges(TAU_OTHERS), PLAIN),
    Claim("fig6", "CLR is stable on VGG", *_STABLE, stable, PLAIN),
    Claim("fig6", "VGG with batch norm converges", _STEPS, "reached", converges(TAU_OTHERS), NORMED),
    Claim("fig6", "CLR is stable on VGG with batch norm", *_STABLE, stable, NORMED),
    Claim("fig7", "training comes near a corridor", "median index", f"< {CORRIDOR}", near_corridor),
    Claim("fig8", "CLR is sooner than fixed rates on ImageNet", *_SOONER, sooner(TAU_OTHERS)),
    Claim("fig9", "CLR converges for all batches", _STEPS, f"reached, range ≥ {RANGE}", converges(TAU, RANGE)),
    Claim("fig9", "CLR is stable for all batches", *_STABLE, stable),
]  # fmt: skip


def ledger(rows: Sequence[Verdict]) -> str:
    """The claims as text: two lines each, with all the values."""
    lines = []
    for row in rows:
        values = ", ".join(f"{seed}: {value:.3g}" for seed, value in sorted(row.values.items())) or "–"
        spread = f"; 95 % interval {row.interval[0]:.3g} to {row.interval[1]:.3g}" if row.interval else ""
        remark = f"\n    {row.remark}" if row.remark else ""
        lines.append(
            f"{row.verdict:<15} {row.figure}  {row.statement}  [{row.scale or 'no scale'}]\n"
            f"    {row.statistic} {row.rule}; by seed {values}{spread}{remark}"
        )
    return "\n".join(lines)
