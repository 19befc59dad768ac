"""One run: from a configuration to a finished run directory. However it ends, `summary.json` says so."""

from __future__ import annotations

import platform
import signal
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout

import corridor_exp
from corridor_exp import checkpoint, records
from corridor_exp.build import build_engine
from corridor_exp.config import Config, difference, refuse_another_run
from corridor_exp.engine import Engine
from corridor_exp.errors import RunError, UsageError
from corridor_exp.loggers import Mirrors
from corridor_exp.provenance import git_commit

CHECKPOINTS = "checkpoints"


def tell(message: str) -> None:
    print(f"corridor-train: {message}", file=sys.stderr, flush=True)


def run(config: Config, directory: Path, patience: float = 1.0) -> str:
    """Begin or go on with the run of `directory`. Returns its status, which `summary.json` has too.

    `completed`, `diverged`, `preempted` (stopped by a signal after saving; the same command goes on) or `failed`.
    Raises `UsageError` where another process holds the directory for longer than `patience` seconds (one that only
    asks whether it is in use holds it for a moment), or where it belongs to another run.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(directory / records.LOCK_FILE, timeout=patience), StopSignals() as stop:
            refuse_another_run(config, directory)
            old = records.read_summary(directory) or {}
            if old.get("status") in ("completed", "diverged") and not config.resume.override:
                tell(f"this run has {old['status']} before; see {directory / records.SUMMARY_FILE}")
                return str(old["status"])
            return _run(config, directory, stop)
    except Timeout:
        raise UsageError(f"{directory} is in use by another process; wait for it, or choose another out_dir") from None


def _run(config: Config, directory: Path, stop: StopSignals) -> str:
    written = yaml.safe_dump(config.public(), sort_keys=False, allow_unicode=True)
    records.write_atomically(directory / records.CONFIG_FILE, written.encode())
    (directory / records.SUMMARY_FILE).unlink(missing_ok=True)  # of a former start: a run that is killed has none
    status, error, engine = "failed", None, None
    try:
        engine = build_engine(config, should_stop=lambda: stop.asked)
        status = _train(engine, config, directory)
    except torch.OutOfMemoryError:
        error = "out of memory: set engine.micro_batch to a part of batch_size; the batch stays what it is"
        tell(error)
    except RunError as problem:
        error = str(problem)
        tell(error)
    except UsageError:
        raise
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
        traceback.print_exc()
    summary = {"status": status, "error": error, **environment(), **(outcome(engine) if engine else {})}
    records.write_atomically(directory / records.SUMMARY_FILE, (records.to_json(summary, indent=2) + "\n").encode())
    tell(_farewell(status, directory, summary))
    return status


def _train(engine: Engine, config: Config, directory: Path) -> str:
    """Load what a former start has saved, train, and keep records, mirrors and checkpoints."""
    saved = checkpoint.load_newest(directory / CHECKPOINTS, tell)
    if saved:
        _refuse_another_machine(saved["environment"], engine, config)
        engine.load_state_dict(saved["engine"])
        tell(f"going on at step {engine.progress.step} of {engine.total_steps}")
    with ExitStack() as stack:
        writer = records.RecordWriter(directory, keep_bytes=saved["records_bytes"] if saved else 0)
        stack.callback(writer.close)
        mirrors = Mirrors([option.build(allow_targets=config.allow_targets) for option in config.logger.values()], tell)
        mirrors.start(directory, config.public(), name=f"{config.name}/{directory.name}")

        def emit(record: records.Record) -> None:
            writer.write(record)
            mirrors.log(record)

        def save(state: dict[str, Any]) -> None:
            extra = {"records_bytes": writer.synced_bytes(), "environment": portable_bits(engine)}
            checkpoint.save(
                directory / CHECKPOINTS, engine.progress.step, {"engine": state, **extra}, config.checkpoint.keep
            )

        engine.emit, engine.save = emit, save
        tell(_greeting(engine, directory))
        status = "failed"
        try:
            status = engine.train()
        finally:  # a mirror left open would take the records of a sweep's next run
            mirrors.finish(status)
    return status


def _refuse_another_machine(old: dict[str, Any], engine: Engine, config: Config) -> None:
    changes = difference(old, portable_bits(engine))
    if changes and not config.resume.override:
        raise UsageError(f"the checkpoint comes from elsewhere ({'; '.join(changes)}); go on by resume.override=true")


def portable_bits(engine: Engine) -> dict[str, Any]:
    """What must be the same for a resumed run to continue with the same bits, and is not in the configuration."""
    return {"torch": str(torch.__version__), "device": engine.objective.device.type, "world_size": 1}


# ------------------------------------------------------------------------- telling


def environment() -> dict[str, Any]:
    """Versions and the commit, for the summary; never the process's environment variables."""
    return {
        "versions": {
            "corridor_exp": corridor_exp.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
        },
        "git_commit": git_commit(),
        "host_cpu": platform.processor() or platform.machine(),
    }


def outcome(engine: Engine) -> dict[str, Any]:
    objective, device = engine.objective, engine.objective.device
    return {
        "metrics": engine.progress.last,
        "step": engine.progress.step,
        "epoch": engine.progress.epoch,
        "seconds": round(engine.progress.seconds, 3),
        "parameters": sum(p.numel() for p in objective.theta),
        "train_images": engine.dataset.train_size,
        "test_images": engine.dataset.test_size,
        "batch_size": engine.plan.batch_size,
        "micro_batch": objective.micro_batch,
        "precision": str(objective.precision or objective.theta[0].dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
    }


def _greeting(engine: Engine, directory: Path) -> str:
    facts = outcome(engine)
    cut = f" in micro-batches of {facts['micro_batch']}" if facts["micro_batch"] else ""
    return (
        f"{facts['parameters']:,} parameters, {facts['train_images']:,} training and {facts['test_images']:,} test "
        f"images, batch {facts['batch_size']}{cut}, {facts['precision']} on {facts['device']}; writing to {directory}"
    )


def _farewell(status: str, directory: Path, summary: dict[str, Any]) -> str:
    metrics = summary.get("metrics", {})
    values = ", ".join(
        f"{key} {metrics[key]:.4g}"
        for key in (records.TRAIN_EPOCH_LOSS, records.TRAIN_LOSS, records.TRAIN_LR, records.TEST_ACCURACY)
        if isinstance(metrics.get(key), float)
    )
    at = f" at step {summary['step']}" if "step" in summary else ""
    advice = {
        "preempted": "; the same command goes on from here",
        "diverged": "; θ kept its last finite values",
        "failed": f"; see {directory / records.SUMMARY_FILE}, the same command tries again",
    }.get(status, "")
    return f"{status}{at}{': ' + values if values else ''}{advice}"


class StopSignals:
    """While this is open, a signal to stop only sets `asked`: the run finishes its step, saves, and ends."""

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> StopSignals:
        self.old = {number: signal.signal(number, self._ask) for number in self.NUMBERS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            tell(f"{signal.Signals(number).name}: finishing this step, then saving")
