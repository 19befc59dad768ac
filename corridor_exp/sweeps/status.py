"""How far the runs of a sweep are, from their folders, and from Slurm where it runs them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from corridor_exp.runs import reading, records
from corridor_exp.runs.layout import LOCK_FILE, LOG_FILE, Status, is_held, total_steps
from corridor_exp.sweeps.worker import last_line

SLURM_WAITS = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "SUSPENDED", "RESV_DEL_HOLD")
SLURM_RUNS = ("RUNNING", "CONFIGURING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED")

FOR_EVER = 1e10  # seconds: some 300 years


@dataclass(frozen=True)
class Look:
    """What is known of a run now. `queued`: Slurm runs it, or will."""

    state: str  # a `Status`, or what a foreign summary says
    queued: bool = False
    step: int | None = None
    loss: float | None = None
    eta: float | None = None  # seconds
    remark: str = ""

    COLUMNS = ("state", "step", "loss", "ETA", "remark")

    @property
    def row(self) -> list[str]:
        loss = "–" if self.loss is None else f"{self.loss:.4g}"
        eta = "–" if self.eta is None or self.eta > FOR_EVER else str(timedelta(seconds=round(self.eta)))
        step = "–" if self.step is None else str(self.step)
        return [self.state, step, loss, eta, " ".join(self.remark.split())]


def look(folder: Path, job: str = "") -> Look:
    """Look at a run; `job` is the state of its newest Slurm job, where it has one and Slurm still knows it."""
    run = reading.read(folder)
    seen = _progress(run)
    if is_held(folder / LOCK_FILE) or job in SLURM_RUNS:
        return replace(seen, state=Status.RUNNING, queued=job in SLURM_RUNS)
    seen = replace(seen, eta=None)
    if job in SLURM_WAITS:
        return replace(seen, queued=True, remark=f"Slurm: {job}")
    if run.faults:
        return replace(seen, state=Status.LOST, remark="; ".join(run.faults))
    if summary := run.summary:
        return replace(seen, state=summary["status"], remark=summary.get("error") or "")
    if job and job != "COMPLETED" and not job.startswith("CANCELLED"):
        return replace(seen, state=Status.FAILED, remark=f"Slurm: {job}; {last_line(folder)}")
    if (folder / LOG_FILE).exists():
        return replace(seen, state=Status.LOST, remark=last_line(folder))
    return seen


def share_done(folder: Path) -> float:
    """The part of a run's steps that is done, from 0 to 1."""
    written, steps = reading.read(folder).records, total_steps(folder)
    return min((written[-1]["step"] + 1) / steps, 1.0) if steps and written else 0.0


def _progress(run: reading.Run) -> Look:
    """Step, loss and time to go, as the records tell them."""
    step, loss, seconds = None, None, 0.0
    for record in run.records:
        step, seconds = record["step"] + 1, record["time"]  # its step is done when it is written
        loss = record.get(records.TRAIN_EPOCH_LOSS, record.get(records.TRAIN_LOSS, loss))
    if not step:
        return Look(Status.WAITING)
    total = total_steps(run.directory)
    eta = None if total is None else seconds / step * (total - step)
    return Look(Status.WAITING, step=step, loss=loss, eta=eta)
