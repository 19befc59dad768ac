"""The training loop. It reads from top to bottom. It knows no configuration, no files and no figures.

For each batch: E and its gradient are computed, probes look, the optimizer steps. Some steps emit a record. Between two
records nothing waits for the device.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from corridor_exp.datasets.base import Dataset
from corridor_exp.engine.state import Progress, Resumable
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.cost import in_gradients
from corridor_exp.optim import guarded, scalar
from corridor_exp.probes.base import Probe
from corridor_exp.runs import records
from corridor_exp.runs.layout import Status
from corridor_exp.runs.records import Metrics, Record

Measured = dict[str, Tensor | float]
TEST_BATCH = 1000
ROUNDING = torch.finfo(torch.float32).eps  # at a smaller loss a gradient, or its square, can round to 0


@dataclass(frozen=True)
class Plan:
    """How long to train, and how often to record, evaluate, look and save."""

    epochs: int
    batch_size: int
    max_steps: int | None = None
    target_loss: float | None = None
    log_every: int = 10
    eval_every: int = 1
    probe_every: int = 50
    probe_until: float = math.inf
    save_every: int | None = 500
    save_minutes: float = math.inf
    best: str | None = None  # the metric whose best evaluation is saved apart


class Engine(Resumable):
    """Trains `objective` on `dataset` with `optimizer`, until the end of the plan, a divergence or a stop.

    `emit` takes each record. `save` takes the state of a checkpoint, which it must copy, and as a second
    argument "best" after the best epoch so far. `should_stop` is called after every step.
    """

    def __init__(
        self,
        objective: Objective,
        dataset: Dataset,
        optimizer: Optimizer,
        plan: Plan,
        *,
        schedule: LRScheduler | None = None,
        probes: Sequence[Probe] = (),
        scaler: GradScaler | None = None,
        emit: Callable[[Record], None] = lambda record: None,
        save: Callable[..., None] = lambda state, kind="step": None,
        should_stop: Callable[[], bool] = lambda: False,
        show_progress: bool = False,
    ) -> None:
        self.objective, self.dataset, self.optimizer, self.plan = objective, dataset, guarded(optimizer), plan
        self.schedule, self.probes, self.scaler = schedule, probes, scaler
        self.emit, self.save, self.should_stop = emit, save, should_stop
        self.show_progress, self.ranks = show_progress, objective.ranks
        self.progress = self.resumed_at = Progress()
        self.loss_sum = torch.zeros((), device=objective.device, dtype=torch.float64)  # over the current epoch's images
        # Whether all steps so far were sound, as a tensor, so that nothing waits for it. An unsound run is not saved.
        self.sound = torch.ones((), device=objective.device, dtype=torch.bool)
        self.started = self.saved = time.perf_counter()

    @property
    def steps_per_epoch(self) -> int:
        return self.dataset.steps(self.plan.batch_size)

    @property
    def position(self) -> int:
        """Batches of the current epoch that are done."""
        return -(-self.progress.images // self.plan.batch_size)

    @property
    def at_end_of_epoch(self) -> bool:
        return self.position >= self.steps_per_epoch  # beyond it after a resume with a larger batch

    @property
    def total_steps(self) -> int:
        """All steps of the run, done and to come. Correct also after a resume with another batch size."""
        epochs, per_epoch = self.plan.epochs - self.progress.epoch, self.steps_per_epoch
        steps = self.progress.step + epochs * per_epoch - min(self.position, per_epoch)
        return min(steps, self.plan.max_steps or steps)

    def train(self) -> Status:
        """Run to the end of the plan, a divergence, or a stop; then save, unless the run diverged."""
        self.objective.model.train()
        self.resumed_at = replace(self.progress)
        self.saved = time.perf_counter()
        self.started = self.saved - self.progress.seconds
        with self._bar() as bar:
            status = None
            while status is None:
                status = self._epoch(bar)
        if not self.sound:  # even if no record has shown it yet: the state is useless
            return Status.DIVERGED
        self.save(self.state_dict())
        return status

    def _epoch(self, bar: tqdm[Any]) -> Status | None:
        """Train from the current position to the end of the epoch. Returns how the run ended, or None if it goes on."""
        progress = self.progress
        if progress.step >= self.total_steps:
            return self._end_epoch(bar) if progress.pending else Status.COMPLETED
        if progress.pending and not self.at_end_of_epoch:  # stopped where the run was to end, and it goes on
            self._record(bar)
        for batch in self.dataset.train_batches(progress.epoch, self.plan.batch_size, self.position):
            measured = self._step(batch)
            bar.update()
            ends_run = progress.step == self.total_steps
            if measured:
                progress.pending = self._read(measured)
                diverged = not self.sound
                if diverged or not (ends_run or self.at_end_of_epoch):  # a last record waits for the evaluation
                    self._record(bar)
                if diverged:
                    return Status.DIVERGED
            stop, due = self.ranks.any(self.should_stop(), self._is_due())
            if stop:
                return Status.PREEMPTED
            if due and self.sound:
                self.save(self.state_dict())
                self.saved = time.perf_counter()
            if ends_run:  # within an epoch, by max_steps
                break
        return self._end_epoch(bar)

    def _step(self, batch: Batch) -> Measured:
        """One iteration, without a host sync. Returns what it measured, on the device; empty if nothing is recorded."""
        plan, progress = self.plan, self.progress
        looks = bool(self.probes) and progress.step % plan.probe_every == 0 and progress.step < plan.probe_until
        is_last = self.position + 1 == self.steps_per_epoch or progress.step + 1 == self.total_steps
        recorded = looks or is_last or progress.step % plan.log_every == 0

        spent = self.objective.passes  # a look counts on its own
        self.optimizer.prepare(self.objective, batch)
        before = self.objective.before() if looks else None
        loss, correct = self.objective.backward(batch, self.scaler, count=recorded)
        seen = []
        if before:
            past = self.objective.as_before(before, batch, loss)
            seen = [probe.look(past, batch) for probe in self.probes]
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        self.optimizer.step(loss=loss)
        norm_sq, h = self.optimizer.grad_norm_sq, self.optimizer.step_taken
        progress.passes += self.objective.passes - spent

        self.loss_sum.add_(loss, alpha=batch.images)
        self.sound &= self._is_sound(loss, norm_sq)
        if self.scaler:
            self.scaler.update()
        if self.schedule:
            self.schedule.step()
        progress.step += 1
        progress.images = min((self.position + 1) * plan.batch_size, self.dataset.train_size)
        progress.seen += batch.images
        if not recorded:
            return {}
        measured: Measured = {records.TRAIN_LOSS: loss, records.TRAIN_GRAD_NORM: norm_sq.sqrt()}
        measured[records.TRAIN_EVALUATIONS] = in_gradients(progress.passes)
        if correct is not None:
            measured[records.TRAIN_ACCURACY] = correct.double() / batch.images
        if h is not None:
            measured[records.TRAIN_LR] = h
        for probe, quantities in zip(self.probes, seen, strict=looks):
            measured |= quantities | probe.at_step(h)
        return measured

    def _is_sound(self, loss: Tensor, norm_sq: Tensor) -> Any:
        """Whether the run can go on: E and g are finite, and g is not 0 while E is above a rounding error.

        An overflow in fp16 does not count while the scale is at least 1, because the scaler makes the scale smaller.
        """
        E, n = scalar(loss), scalar(norm_sq)
        bounded = abs(n) < math.inf
        if self.scaler and (scale := self.scaler._get_scale_async()) is not None:
            bounded = bounded | (scalar(scale) >= 1)
        return (abs(E) < math.inf) & bounded & ((n != 0) | (E <= ROUNDING))

    def _read(self, measured: Measured) -> Metrics:
        """Copy the numbers of a record to the host. Here the loop waits for the device."""
        tensors = {key: value for key, value in measured.items() if isinstance(value, Tensor)}
        numbers = torch.stack([t.to(self.objective.device, torch.float64) for t in tensors.values()]).tolist()
        metrics: Metrics = {**measured, **dict(zip(tensors, numbers, strict=True))}  # type: ignore[dict-item]
        # A probe's NaN means that there is no answer. In a record this is null.
        return {k: None if k.startswith("probe/") and v != v else v for k, v in metrics.items()}

    def _end_epoch(self, bar: tqdm[Any]) -> Status | None:
        """Evaluate and emit the last record of an epoch or of the run. Returns how it ended; None if it goes on."""
        progress, plan = self.progress, self.plan
        metrics: Metrics = {}
        ends = progress.step >= self.total_steps
        whole = self.at_end_of_epoch
        if whole and progress.seen:  # none is seen where a resume at the end of an epoch has another loss
            metrics[records.TRAIN_EPOCH_LOSS] = loss = self.loss_sum.item() / progress.seen
            # At a mean loss of exactly 0 nothing is left to learn. A loss of the user's own may be negative.
            ends |= loss == 0 if plan.target_loss is None else loss <= plan.target_loss
        if ends or (progress.epoch + 1) % plan.eval_every == 0:
            tested = self.evaluate()
            if tested is None:
                return Status.PREEMPTED
            metrics |= tested
        metrics = progress.pending = {**progress.pending, **metrics}
        self._record(bar)
        if whole:
            self.loss_sum.zero_()
            progress.next_epoch()
        if self._is_best(metrics) and self.sound:
            self.save(self.state_dict(), "best")
        return Status.COMPLETED if ends else None

    def evaluate(self) -> Metrics | None:
        """Mean loss, and accuracy if there are classes, over the test set, in evaluation mode.

        None if a stop was asked for meanwhile.
        """
        if not self.dataset.test_size:
            return {}
        size = min(self.objective.micro_batch or TEST_BATCH, TEST_BATCH)
        loss = torch.zeros((), device=self.objective.device, dtype=torch.float64)
        correct = torch.zeros((), device=self.objective.device)
        seen = 0
        batches = -(-self.dataset.test_size // size)
        self.ranks.follow_first(self.objective.model.buffers())  # each rank has its own statistics of batch norm
        with self.optimizer.evaluation_weights(), self._bar("testing", batches, hidden=batches < 5) as bar:
            for batch in self.dataset.test_batches(size):
                evaluation = self.objective.evaluate(batch)
                loss += evaluation.loss * batch.images
                seen += batch.images
                if evaluation.correct is not None:
                    correct += evaluation.correct
                bar.update()
                if self.ranks.any(self.should_stop())[0]:
                    return None
        accuracy = {} if evaluation.correct is None else {records.TEST_ACCURACY: correct.item() / seen}
        return {records.TEST_LOSS: loss.item() / seen, **accuracy}

    def _record(self, bar: tqdm[Any]) -> None:
        """Emit the pending record of the newest step. Every record goes this way."""
        progress, metrics = self.progress, self.progress.pending
        progress.pending = {}
        progress.last.update(metrics)
        progress.seconds = time.perf_counter() - self.started
        where = {"step": progress.step - 1, "epoch": progress.epoch, "time": round(progress.seconds, 6)}
        self.emit({**where, **metrics})
        steps, seconds = progress.step - self.resumed_at.step, progress.seconds - self.resumed_at.seconds
        rate = steps * self.plan.batch_size / seconds
        shown = {"loss": metrics.get(records.TRAIN_LOSS), "h": metrics.get(records.TRAIN_LR), "images/s": rate}
        bar.set_description(f"epoch {progress.epoch + 1}/{self.plan.epochs}", refresh=False)
        bar.set_postfix({key: f"{value:.3g}" for key, value in shown.items() if value is not None}, refresh=False)

    def _is_due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        every, minutes = self.plan.save_every, (time.perf_counter() - self.saved) / 60
        return minutes >= self.plan.save_minutes or (every is not None and self.progress.step % every == 0)

    def _is_best(self, metrics: Metrics) -> bool:
        """Whether this evaluation is better than all before it, by the metric in the plan."""
        value = metrics.get(self.plan.best or "")
        if value is None:
            return False
        score = value if self.plan.best == records.TEST_ACCURACY else -value
        if better := score > self.progress.best:
            self.progress.best = score
        return better

    def _bar(self, what: str | None = None, total: int | None = None, hidden: bool = False) -> tqdm[Any]:
        """A progress bar of the run, or of `total` test batches. In a log file, a line every half minute."""
        return tqdm(
            desc=what,
            total=total or self.total_steps,
            initial=0 if total else self.progress.step,
            unit="batch" if total else "step",
            leave=total is None,
            disable=hidden or not self.show_progress,
            mininterval=0.2 if sys.stderr.isatty() else 30.0,
        )
