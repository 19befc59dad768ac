"""How far the runs of a sweep are, from their folders, and from Slurm where it runs them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from corridor_exp.files import regular
from corridor_exp.runs import reading, records
from corridor_exp.sweeps.frozen import is_locked
from corridor_exp.sweeps.worker import LOG, last_line

SLURM_WAITS = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "SUSPENDED", "RESV_DEL_HOLD")
SLURM_RUNS = ("RUNNING", "CONFIGURING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED")

FOR_EVER = 1e10  # seconds: some 300 years


@dataclass(frozen=True)
class Look:
    """What is known of a run now. `queued`: Slurm runs it, or will."""

    state: str  # waiting | running | completed | diverged | failed | preempted | lost
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
    stored = reading.read(folder)
    seen = _progress(stored)
    if is_locked(folder / records.LOCK_FILE) or job in SLURM_RUNS:
        return replace(seen, state="running", queued=job in SLURM_RUNS)
    seen = replace(seen, eta=None)
    if job in SLURM_WAITS:
        return replace(seen, queued=True, remark=f"Slurm: {job}")
    if stored.faults:
        return replace(seen, state="lost", remark="; ".join(stored.faults))
    if summary := stored.summary:
        return replace(seen, state=summary["status"], remark=summary.get("error") or "")
    if job and job != "COMPLETED" and not job.startswith("CANCELLED"):
        return replace(seen, state="failed", remark=f"Slurm: {job}; {last_line(folder)}")
    if (folder / LOG).exists():
        return replace(seen, state="lost", remark=last_line(folder))
    return seen


def share_done(folder: Path) -> float:
    """The part of a run's steps that is done, from 0 to 1."""
    written, steps = reading.read(folder).records, _total_steps(folder)
    return min((written[-1]["step"] + 1) / steps, 1.0) if steps and written else 0.0


def _total_steps(folder: Path) -> int | None:
    """The steps that the whole run takes, which it writes down when its training begins; None before that."""
    try:
        return int(regular(folder / records.STEPS_FILE).read_text())
    except (OSError, ValueError):
        return None


def _progress(stored: reading.Stored) -> Look:
    """Step, loss and time to go, as the records tell them."""
    step, loss, seconds = None, None, 0.0
    for record in stored.records:
        step, seconds = record["step"] + 1, record["time"]  # its step is done when it is written
        loss = record.get(records.TRAIN_EPOCH_LOSS, record.get(records.TRAIN_LOSS, loss))
    if not step:
        return Look("waiting")
    total = _total_steps(stored.directory)
    eta = None if total is None else seconds / step * (total - step)
    return Look("waiting", step=step, loss=loss, eta=eta)
