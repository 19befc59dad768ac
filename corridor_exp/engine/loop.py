"""The training loop. Reads from top to bottom; knows no configuration, no files, no figures.

For each batch: probes look, E and its gradient are computed, the optimizer steps, a record is emitted now and then.
Between two records nothing waits for the device.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from corridor_exp.datasets.base import Dataset
from corridor_exp.errors import RunError
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.ranks import cut_like, whole
from corridor_exp.optim import Descent, at_hand, evaluation_weights, guarded_step, step_size_of
from corridor_exp.probes.base import Probe
from corridor_exp.runs import records
from corridor_exp.runs.records import Metrics, Record

Status = Literal["completed", "diverged", "preempted"]
Measured = dict[str, Tensor | float]
State = dict[str, Any]
TEST_BATCH = 1000
_SOUND = "sound"


@dataclass(frozen=True)
class Plan:
    """How long to train, and how often to do what; counts of steps and of epochs."""

    epochs: int
    batch_size: int
    max_steps: int | None = None
    target_loss: float | None = None
    log_every: int = 10
    eval_every: int = 1
    probe_every: int = 50
    save_every: int | None = 500
    save_minutes: float = math.inf
    best: str | None = None  # the metric whose best epoch is saved apart


@dataclass
class Progress:
    """Where a run stands: `step` updates are done, and the first `images` of the current epoch's order.

    `seen` are those of them that could be read: all, unless a data set leaves out damaged ones.
    """

    step: int = 0
    epoch: int = 0
    images: int = 0
    seen: int = 0
    seconds: float = 0.0
    pending: Metrics = field(default_factory=dict)  # of an epoch's last step, while its evaluation is not done
    last: Metrics = field(default_factory=dict)  # the newest value of every metric
    best: float = -math.inf  # the highest score so far: see `_is_best`
    began: int = 0  # the step at which this run began: above 0 in a fork


class Engine:
    """Trains `objective` on `dataset` with `optimizer` until the plan, a divergence or a stop ends it.

    `emit` takes each record; `save` and `save_best` take the state of a checkpoint, which they must copy;
    `should_stop` is asked after every step.
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
        save: Callable[[State], None] = lambda state: None,
        save_best: Callable[[State], None] = lambda state: None,
        should_stop: Callable[[], bool] = lambda: False,
        show_progress: bool = False,
    ) -> None:
        self.objective, self.dataset, self.optimizer, self.plan = objective, dataset, optimizer, plan
        self.schedule, self.probes, self.scaler = schedule, probes, scaler
        self.emit, self.save, self.save_best, self.should_stop = emit, save, save_best, should_stop
        self.show_progress, self.ranks = show_progress, objective.ranks
        self.progress = self.resumed_at = Progress()
        zero = torch.zeros((), device=objective.device)
        self.loss_sum = zero.double()  # over the images of the current epoch
        self.sound: Tensor | bool = True  # whether all steps so far were; a run that was not is not saved any more
        self.started = self.saved = time.perf_counter()

    @property
    def steps_per_epoch(self) -> int:
        return self.dataset.steps(self.plan.batch_size)

    @property
    def position(self) -> int:
        """Batches of the current epoch that are done."""
        return -(-self.progress.images // self.plan.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps done and steps to come: right also where a resumed run has got another batch size."""
        to_come = (self.plan.epochs - self.progress.epoch) * self.steps_per_epoch - self.position
        steps = self.progress.step + to_come
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
        if not self.sound:  # seen or not yet seen by a record: what came after is not worth going on from
            return "diverged"
        self.save(self.state_dict())
        return status

    def fit_to_memory(self, tell: Callable[[str], None]) -> None:
        """Halve the micro-batch, on all ranks, until the first batch fits into memory. Changes nothing else.

        Raises `RunError` where not even one image does. A sharded model, which cannot be looked at, is left alone.
        """
        if self.objective.is_sharded:
            return
        batch = next(iter(self.dataset.train_batches(0, self.plan.batch_size)))
        part = -(-batch.images // self.ranks.size)
        while self.ranks.any(not self.objective.fits(batch, hessian=bool(self.probes)))[0]:
            size = min(self.objective.micro_batch or part, part)
            if size == 1:
                raise RunError("out of memory, even with engine.micro_batch=1: take a smaller model, or probe=none")
            self.objective.micro_batch = size = size // 2
            tell(f"out of memory: going on with engine.micro_batch={size}; the batch stays what it is")
            if any(isinstance(module, _BatchNorm) for module in self.objective.model.modules()):
                tell("batch norm sees smaller batches now, so that E is not the same function as before")

    def _epoch(self, bar: tqdm[Any]) -> Status | None:
        """Train from the current position to the end of the epoch. How the run ended, or None if it goes on."""
        progress = self.progress
        if progress.step >= self.total_steps and not progress.pending:
            return "completed"
        for batch in self.dataset.train_batches(progress.epoch, self.plan.batch_size, self.position):
            measured = self._step(batch)
            progress.step += 1
            progress.images = min((self.position + 1) * self.plan.batch_size, self.dataset.train_size)
            progress.seen += batch.images
            bar.update()
            ends_epoch = self.position == self.steps_per_epoch
            if measured is not None:
                metrics, diverged = self._read(measured)
                if diverged:
                    self._record(metrics, bar)
                    return "diverged"
                if ends_epoch:
                    progress.pending = metrics  # its record waits for the evaluation
                else:
                    self._record(metrics, bar)
            stop, due = self.ranks.any(self.should_stop(), self._is_due())
            if stop:
                return "preempted"
            if progress.step == self.total_steps and not ends_epoch:
                return "completed"
            if due and self.sound:
                self.save(self.state_dict())
                self.saved = time.perf_counter()
        return self._end_epoch(bar)

    def _end_epoch(self, bar: tqdm[Any]) -> Status | None:
        progress, plan = self.progress, self.plan
        loss = self.loss_sum.item() / progress.seen
        # At a mean loss of exactly 0 nothing is left to learn.
        ends = progress.step == self.total_steps or loss <= (plan.target_loss or 0.0)
        tested: Metrics | None = {}
        if ends or (progress.epoch + 1) % plan.eval_every == 0:
            tested = self.evaluate()
        if tested is None:
            return "preempted"
        metrics = {**progress.pending, records.TRAIN_EPOCH_LOSS: loss, **tested}
        self._record(metrics, bar)
        self.loss_sum.zero_()
        progress.pending = {}
        progress.epoch, progress.images, progress.seen = progress.epoch + 1, 0, 0
        if self._is_best(metrics) and self.sound:
            self.save_best(self.state_dict())
        return "completed" if ends else None

    def _is_due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        every, minutes = self.plan.save_every, (time.perf_counter() - self.saved) / 60
        return minutes >= self.plan.save_minutes or (every is not None and self.progress.step % every == 0)

    def _is_best(self, metrics: Metrics) -> bool:
        """Whether the epoch that ended is the best so far by the metric that the plan names; of equals the first is."""
        value = metrics.get(self.plan.best or "")
        if value is None:
            return False
        score = value if self.plan.best == records.TEST_ACCURACY else -value
        if better := score > self.progress.best:
            self.progress.best = score
        return better

    def _step(self, batch: Batch) -> Measured | None:
        """One update. What it measured, still on the device, or None if it is not recorded. No host sync."""
        plan, step = self.plan, self.progress.step
        looks = bool(self.probes) and step % plan.probe_every == 0
        is_last = self.position + 1 == self.steps_per_epoch or step + 1 == self.total_steps
        recorded = looks or is_last or step % plan.log_every == 0
        seen = [probe.look(self.objective, batch) for probe in self.probes] if looks else []
        if isinstance(self.optimizer, Descent):
            self.optimizer.look(self.objective, batch)

        loss, correct = self.objective.backward(batch, self.scaler, count=recorded)
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        norm_sq = guarded_step(self.optimizer, loss)
        h = step_size_of(self.optimizer)

        self.loss_sum.add_(loss, alpha=batch.images)
        self.sound = self.sound & self._is_sound(loss, norm_sq)
        measured: Measured | None = None
        if recorded:
            measured = {
                records.TRAIN_LOSS: loss,
                records.TRAIN_GRAD_NORM: norm_sq.sqrt(),
                _SOUND: self.sound,
            }
            if correct is not None:
                measured[records.TRAIN_ACCURACY] = correct.double() / batch.images
            if h is not None:
                measured[records.TRAIN_LR] = h
            for probe, quantities in zip(self.probes, seen, strict=looks):
                measured |= quantities | probe.at_step(h)
        if self.scaler:
            self.scaler.update()
        if self.schedule:
            self.schedule.step()
        return measured

    def _is_sound(self, loss: Tensor, norm_sq: Tensor) -> Tensor | bool:
        """Whether the run can go on: E and g are finite, and g is not 0 away from the minimum.

        fp16's overflows do not count: the scaler answers them by a smaller scale, until that has nowhere to go.
        """
        E, n = at_hand(loss), at_hand(norm_sq)
        bounded = abs(n) < math.inf
        if self.scaler and (scale := self.scaler._get_scale_async()) is not None:
            bounded = bounded | (at_hand(scale) >= 1)
        sound: Tensor | bool = (abs(E) < math.inf) & bounded & ((n != 0) | (E <= 0))
        return sound

    def _read(self, measured: Measured) -> tuple[Metrics, bool]:
        """Bring the numbers of a record to the host: the one place where the loop waits for the device."""
        tensors = {key: value for key, value in measured.items() if isinstance(value, Tensor)}
        numbers = torch.stack([t.to(self.objective.device, torch.float64) for t in tensors.values()]).tolist()
        metrics: Metrics = {**measured, **dict(zip(tensors, numbers, strict=True))}  # type: ignore[dict-item]
        diverged = not metrics.pop(_SOUND)
        # A probe says NaN for a question that has no answer here; in a record that is null.
        return {k: None if k.startswith("probe/") and v != v else v for k, v in metrics.items()}, diverged

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
        self.ranks.follow_first(self.objective.model.buffers())  # batch norm's are each rank's own
        with evaluation_weights(self.optimizer), self._bar("testing", batches, hidden=batches < 5) as bar:
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

    def _record(self, metrics: Metrics, bar: tqdm[Any]) -> None:
        progress = self.progress
        progress.last.update(metrics)
        progress.seconds = time.perf_counter() - self.started
        where = {"step": progress.step - 1, "epoch": progress.epoch, "time": round(progress.seconds, 6)}
        self.emit({**where, **metrics})
        steps, seconds = progress.step - self.resumed_at.step, progress.seconds - self.resumed_at.seconds
        rate = steps * self.plan.batch_size / seconds
        shown = {"loss": metrics.get(records.TRAIN_LOSS), "h": metrics.get(records.TRAIN_LR), "images/s": rate}
        bar.set_description(f"epoch {progress.epoch + 1}/{self.plan.epochs}", refresh=False)
        bar.set_postfix({key: f"{value:.3g}" for key, value in shown.items() if value is not None}, refresh=False)

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

    # --------------------------------------------------------------------- state

    def state_dict(self) -> State:
        """All that a resumed run needs to go on with the same bits: tensors and plain values only."""
        device = self.objective.device
        self.progress.seconds = time.perf_counter() - self.started
        return {
            "progress": asdict(self.progress),
            "micro_batch": self.objective.micro_batch,
            "loss_sum": self.loss_sum,
            "model": whole(self.objective.model.state_dict()),
            "optimizer": whole(self.optimizer.state_dict()),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "rng": self.ranks.gathered(torch.get_rng_state()),
            "cuda_rng": self.ranks.gathered(torch.cuda.get_rng_state(device)) if device.type == "cuda" else None,
        }

    def _cut(self, state: dict[int, State]) -> dict[int, State]:
        """The optimizer's tensors, sharded as the parameters are that they belong to."""
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        return {
            i: {key: cut_like(value, params[i]) for key, value in of_one.items()} if isinstance(i, int) else of_one
            for i, of_one in state.items()
        }

    def load_state_dict(self, state: State, changed: Collection[str] = ()) -> None:
        """Go on from a state of this run, or of one whose configuration differs in the keys `changed`.

        From another one come θ, the place in the data, and the optimizer's memory, unless it is another optimizer;
        what has changed (a learning rate, the schedule, the seed) is as this run has it.
        """
        self.progress = Progress(**state["progress"])
        self.loss_sum.copy_(state["loss_sum"])
        if "engine.micro_batch" not in changed:
            self.objective.micro_batch = state["micro_batch"]
        sharded = dict(self.objective.model.named_parameters())
        self.objective.model.load_state_dict({k: cut_like(v, sharded.get(k)) for k, v in state["model"].items()})
        if "optim._target_" not in changed:
            groups = self.optimizer.param_groups
            self.optimizer.load_state_dict({**state["optimizer"], "state": self._cut(state["optimizer"]["state"])})
            if changed:
                renewed = {"lr", "initial_lr", *(key.removeprefix("optim.") for key in changed)}
                for old, new in zip(self.optimizer.param_groups, groups, strict=True):
                    old.update({key: new[key] for key in renewed & new.keys()})
        if self.schedule and changed:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch expects a step of the optimizer before each of the schedule
                for _ in range(self.progress.step):
                    self.schedule.step()
        elif self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        if self.scaler and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if "seed" not in changed and len(state["rng"]) == self.ranks.size:
            torch.set_rng_state(state["rng"][self.ranks.rank])
            if state["cuda_rng"] is not None and self.objective.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda_rng"][self.ranks.rank], self.objective.device)
