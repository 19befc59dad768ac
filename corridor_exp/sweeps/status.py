"""The progress of the runs of a sweep, from their folders and from Slurm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from corridor_exp.runs import reading, records
from corridor_exp.runs.layout import CHANGED_CONFIG_FILE, ENDED, LOCK_FILE, LOG_FILE, Status, is_held, total_steps
from corridor_exp.runs.text import shown
from corridor_exp.sweeps.worker import last_line

SLURM_WAITS = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "SUSPENDED", "RESV_DEL_HOLD")
SLURM_RUNS = ("RUNNING", "CONFIGURING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED")

FOR_EVER = 1e10  # seconds: some 300 years


@dataclass(frozen=True)
class RunState:
    """What is known about a run now. `queued`: Slurm runs it or will run it."""

    state: str  # a `Status`, or the text in a summary of other code
    queued: bool = False
    step: int | None = None
    loss: float | None = None
    eta: float | None = None  # seconds
    remark: str = ""

    COLUMNS = ("state", "step", "loss", "ETA", "remark")

    @property
    def row(self) -> list[str]:
        eta = "–" if self.eta is None or self.eta > FOR_EVER else str(timedelta(seconds=round(self.eta)))
        return [self.state, shown(self.step), shown(self.loss), eta, " ".join(self.remark.split())]


def state_of(folder: Path, job: str = "") -> RunState:
    """The state of a run. `job` is that of its newest Slurm job, if it has one that Slurm still knows."""
    run = reading.read(folder)
    seen = _progress(run)
    if is_held(folder / LOCK_FILE) or job in SLURM_RUNS:
        return replace(seen, state=Status.RUNNING, queued=job in SLURM_RUNS)
    seen = replace(seen, eta=None)
    if job in SLURM_WAITS:
        return replace(seen, queued=True, remark=f"Slurm: {job}")
    if run.faults:
        return replace(seen, state=Status.LOST, remark="; ".join(run.faults))
    summary = run.summary
    if changed := _time_of(folder / CHANGED_CONFIG_FILE) if run.status in ENDED else None:
        if (_time_of(folder / LOG_FILE) or 0) >= changed:  # it has refused the change
            return replace(seen, state=Status.FAILED, remark=last_line(folder))
        summary = {}
    if summary:
        why = last_line(folder) if run.status == Status.DIVERGED else ""
        return replace(seen, state=summary["status"], remark=summary.get("error") or why)
    if job and job != "COMPLETED" and not job.startswith("CANCELLED"):
        return replace(seen, state=Status.FAILED, remark=f"Slurm: {job}; {last_line(folder)}")
    if (folder / LOG_FILE).exists() and not changed:
        return replace(seen, state=Status.LOST, remark=last_line(folder))
    return seen


def _time_of(file: Path) -> float | None:
    """When it was last written; None if it is not there."""
    try:
        return file.stat().st_mtime
    except OSError:
        return None


def share_done(folder: Path) -> float:
    """The part of a run's steps that is done, from 0 to 1."""
    written, steps = reading.read(folder).records, total_steps(folder)
    return min((written[-1]["step"] + 1) / steps, 1.0) if steps and written else 0.0


def _progress(run: reading.Run) -> RunState:
    """Step, loss and remaining time, from the records."""
    step, loss, seconds = None, None, 0.0
    for record in run.records:
        step, seconds = record["step"] + 1, record["time"]  # its step is done when it is written
        loss = record.get(records.TRAIN_EPOCH_LOSS, record.get(records.TRAIN_LOSS, loss))
    if not step:
        return RunState(Status.WAITING)
    total = total_steps(run.directory)
    eta = None if total is None else seconds / step * (total - step)
    return RunState(Status.WAITING, step=step, loss=loss, eta=eta)
