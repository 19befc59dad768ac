"""The statistics of one run for the claims: time to a loss, stability, the course of h, distance from a corridor."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from itertools import groupby

from corridor_exp.runs import records
from corridor_exp.runs.layout import Status
from corridor_exp.runs.reading import Run
from corridor_exp.runs.records import Record

BINS = 10
LOW = 0.05  # h counts until this loss, because under cross-entropy it rises again after interpolation
CAP_BINDS = 0.05  # share of the steps at the cap
CLASSES = 10
JUMP = 2.0  # an epoch's loss over the lowest before it, while the loss is above LOW_ENOUGH
LOW_ENOUGH = 0.1
LAST = 0.1  # share of the epochs whose test accuracy is averaged
INDICES = records.CORRIDOR_INDEX, records.SECANT_CORRIDOR_INDEX


class UndecidedError(Exception):
    """The reason why the runs cannot decide a claim."""


def epoch_ends(run: Run) -> list[int]:
    """How many steps are done at the end of each epoch."""
    return [r["step"] + 1 for r in run.records if records.TRAIN_EPOCH_LOSS in r]


def epoch_losses(run: Run) -> list[float]:
    """The mean training loss of each epoch. A divergence adds an infinite one."""
    losses = [r[records.TRAIN_EPOCH_LOSS] for r in run.records if records.TRAIN_EPOCH_LOSS in r]
    return [*losses, math.inf] if run.status == Status.DIVERGED else losses


def losses_of_some_epochs(run: Run) -> list[float]:
    """The same. Raises `UndecidedError` for a run that was cut within its first epoch."""
    if losses := epoch_losses(run):
        return losses
    raise UndecidedError(f"{run.directory.name} ended within its first epoch")


def steps_to(tau: float, run: Run) -> float:
    """T_τ: where ln of the epochs' mean loss, on straight lines between their ends, comes down to ln τ.

    It is infinite if the loss never does, or if the run diverged later.
    """
    return _where(epoch_ends(run), run, tau)


def gradients_to(tau: float, run: Run) -> float:
    """The same as `steps_to`, in gradients of a batch (`train/evaluations`)."""
    ends = [r for r in run.records if records.TRAIN_EPOCH_LOSS in r]
    return _where([r[records.TRAIN_EVALUATIONS] for r in ends], run, tau)


def _where(at: Sequence[float], run: Run, tau: float) -> float:
    losses = epoch_losses(run)
    number = next((n for n, loss in enumerate(losses) if loss <= tau), None)
    if number is None or run.status == Status.DIVERGED:
        return math.inf
    if number == 0:
        return at[0]
    before, after = losses[number - 1], max(losses[number], sys.float_info.min)
    share = math.log(before / tau) / math.log(before / after)
    return at[number - 1] + share * (at[number] - at[number - 1])


def on_its_way(run: Run) -> bool:
    """Whether the loss was lowest in the last tenth of the epochs. Then more epochs might have reached τ."""
    losses = epoch_losses(run)
    return bool(losses) and losses.index(min(losses)) >= len(losses) - max(1, len(losses) // 10)


def final_accuracy(run: Run) -> float:
    """Mean test accuracy over the last tenth of the epochs, in points; −∞ for a run that diverged."""
    if run.status == Status.DIVERGED:
        return -math.inf
    tested = [(r["epoch"], r[records.TEST_ACCURACY]) for r in run.records if records.TEST_ACCURACY in r]
    if not tested:
        raise UndecidedError("there is no test accuracy")
    epochs = tested[-1][0] + 1
    return 100 * statistics.mean(accuracy for epoch, accuracy in tested if epoch + 1 > epochs * (1 - LAST))


def instability(run: Run) -> float:
    """After the first epoch, the largest of L_e / ln C and, while L_e > 0.1, L_e / (2 min L_{<e}); stable up to 1."""
    losses = losses_of_some_epochs(run)
    worst = 0.0
    for number in range(1, len(losses)):
        loss, lowest = losses[number], min(losses[:number])
        jump = loss / lowest / JUMP if loss > LOW_ENOUGH else 0.0
        worst = max(worst, loss / math.log(CLASSES), jump)
    return worst


def step_sizes(run: Run) -> tuple[list[float], int | None]:
    """h of all recorded steps, and how many come before the first with E < 0.05. None if no step has E < 0.05."""
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
    """The highest median of ten bins, over the higher median of the first and the last bin. 1 if an end is highest."""
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
    return min(map(median_index, tenths(looks_of(run), run.records[-1]["step"] + 1)))


def tenths(looks: Sequence[Record], total_steps: int) -> list[list[Record]]:
    """The looks of a run, by tenths of its steps. Tenths without a look are left out."""
    grouped = groupby(looks, key=lambda look: min(BINS - 1, look["step"] * BINS // max(total_steps, 1)))
    return [list(members) for _, members in grouped]
