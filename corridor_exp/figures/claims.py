"""The paper's empirical claims, each with a statistic, a margin and a rule fixed before the runs, in docs/rules.md."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from corridor_exp.figures.run_statistics import (
    BINS,
    UndecidedError,
    epoch_ends,
    final_accuracy,
    instability,
    looks_of,
    losses_of_some_epochs,
    median_index,
    nearest_corridor,
    on_its_way,
    peak,
    rise_and_fall,
    step_sizes,
    steps_to,
)
from corridor_exp.figures.verdicts import Claim, Statistic
from corridor_exp.runs.groups import Runs
from corridor_exp.runs.reading import Run

ByScale = tuple[dict[str, float], float]  # the values of scales that have their own, and the value of all others

TAU: ByScale = {}, 0.01  # an epoch's mean training loss that counts as zero
TAU_OTHERS: ByScale = {"full": 0.01}, 0.1  # for other networks and for ImageNet: at full scale, and at all others
SOONER = 0.15  # log₂ of a ratio of steps: 11 %
BETTER: ByScale = {"full": 0.5}, 2.0  # points of test accuracy
PEAK = 1.5  # the highest bin of h over the first, and over the last
RANGE = 16  # of batch sizes
CORRIDOR = 0.5  # no convex quadratic with minimum 0 has a smaller corridor index


def _at(scales: ByScale, runs: Runs) -> float:
    return scales[0].get(runs.scale or "", scales[1])


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


def by_rate(runs: Sequence[Run]) -> dict[float, list[Run]]:
    """The runs of each rate, from the lowest. Raises `UndecidedError` if there is none."""
    rates: dict[float, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.config["optim.lr"]):
        rates.setdefault(run.config["optim.lr"], []).append(run)
    if not rates:
        raise UndecidedError("there is no run under SGD")
    return rates


def best_rate(rates: Mapping[float, Sequence[Run]], tau: float) -> float:
    """The rate with the lowest mean log T; of those that do not get to τ, that with the lowest last loss."""

    def slowness(rate: float) -> tuple[float, float]:
        last = statistics.mean(losses_of_some_epochs(run)[-1] for run in rates[rate])
        return statistics.mean(math.log2(steps_to(tau, run)) for run in rates[rate]), last

    return min(rates, key=slowness)


def _refuse_an_edge(rate: float, rates: Sequence[float]) -> None:
    if rate in (min(rates), max(rates)):
        raise UndecidedError(f"the best rate, {rate:g}, is at the edge of the sweep")


def sooner(tau: ByScale) -> Callable[[Runs], Statistic]:
    """log₂ of the time to τ under the best rate over the time under CLR.

    The best rate is picked on the same seeds, which favours SGD. A run that does not get there counts with its budget,
    a lower bound of its time. For a run of SGD the statistic is then a lower bound, and not negative. For a run of CLR
    it is an upper bound, and not positive.
    """

    def measure(runs: Runs) -> Statistic:
        target = _at(tau, runs)
        clr = _by_seed(_clr(runs), lambda run: steps_to(target, run))
        rates = _with_all_seeds(by_rate(runs.where(optim__name="sgd", dataset__held_out=None)), set(clr))
        sgd = {rate: _by_seed(members, lambda run: steps_to(target, run)) for rate, members in rates.items()}
        budget = max((end for run in runs.runs for end in epoch_ends(run)), default=0)

        best = best_rate(rates, target)
        told = f"best rate {best:g}; steps under CLR {_listed(clr)}, under SGD {_listed(sgd[best])}"
        if any(math.isinf(clr[seed]) and math.isinf(sgd[best][seed]) for seed in clr):
            raise UndecidedError(f"the budget ended before either reached {target:g}: {told}")
        _refuse_an_edge(best, list(sgd))
        values = {seed: math.log2(min(sgd[best][seed], budget) / min(clr[seed], budget)) for seed in clr}
        return Statistic(values, lambda v: v >= SOONER, lambda v: v <= -SOONER, told)

    return measure


def _with_all_seeds(rates: dict[float, list[Run]], seeds: set[int]) -> dict[float, list[Run]]:
    """The rates that have all seeds: stage two of the sweep. Stage one has one seed a rate, and only chooses."""
    complete = {rate: runs for rate, runs in rates.items() if seeds <= {run.seed for run in runs}}
    if not complete:
        raise UndecidedError(f"no rate has all of the seeds {', '.join(map(str, sorted(seeds)))}")
    return complete


def tests_better(runs: Runs) -> Statistic:
    clr = _clr(runs)
    own = _by_seed(clr, final_accuracy)
    median_h = statistics.median(value for h, low in map(step_sizes, clr) for value in h[:low])
    sgd = runs.where(optim__name="sgd")
    choosing = by_rate([run for run in sgd if run.config.get("dataset.held_out")])
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
    """Steps to τ of the slowest batch size. The largest batch must be at least `width` times the smallest."""

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
CLR = {"optim__name": "clr"}
CIFAR, IMAGENET = {"dataset__name": "cifar10"}, {"dataset__name": "imagenet"}
PLAIN, NORMED = {"model__norm": "none"}, {"model__norm": "batch"}

CLAIMS = [
    Claim("fig2", "CLR reaches zero loss sooner than any fixed rate", *_SOONER, sooner(TAU)),
    Claim("fig2", "a larger rate tests better", "accuracy, SGD − CLR, points", "≥ 0.5 full, ≥ 2 else", tests_better),
    Claim("fig2", "CLR is stable", *_STABLE, stable, CLR),
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
