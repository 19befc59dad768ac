"""One run: from a configuration to a finished run directory. `summary.json` says how it ended."""

from __future__ import annotations

import logging
import math
import platform
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

import corridor_exp
from corridor_exp.config import secrets
from corridor_exp.config.differences import changes, difference, identity
from corridor_exp.config.schema import Config
from corridor_exp.engine.build import build_engine
from corridor_exp.engine.first_batch import check_compiled, fit_to_memory
from corridor_exp.engine.loop import Engine
from corridor_exp.engine.output import Output
from corridor_exp.engine.state import Renewed
from corridor_exp.errors import RunError, UsageError, in_words
from corridor_exp.files import write_atomically, write_json
from corridor_exp.objective import ranks as distributed
from corridor_exp.objective.cost import in_gradients
from corridor_exp.objective.ranks import Ranks
from corridor_exp.runs import checkpoint, layout, reading, records
from corridor_exp.runs.layout import Status, held, write_total_steps
from corridor_exp.runs.places import ended_before, refuse_to_start
from corridor_exp.runs.provenance import git_commit
from corridor_exp.yaml_files import to_yaml

log = logging.getLogger(__name__)
WRITTEN = (layout.CONFIG_FILE, layout.SUMMARY_FILE)  # before anything is known to fit
LENGTH = {"epochs", "max_steps", "target_loss"}  # keys that end a run without changing a step
OF_THE_LOSS = re.compile(r"l2|loss|loss\..*|dataset\.(?!root|download|workers).*")  # keys that decide what E is
EXPECTED = (RunError, OSError, torch.OutOfMemoryError)  # logged without a traceback


def run(config: Config, directory: Path, should_stop: Callable[[], bool], patience: float = 1.0) -> Status:
    """Begin or continue the run in `directory`. Returns its status, which is in `summary.json` too.

    If the directory cannot be written, this is logged and the status is `failed`. Raises `UsageError` if another
    process holds the directory for longer than `patience` seconds, or if the directory belongs to another run. (A
    process that only asks whether the directory is in use holds it for a moment.)

    All ranks call this function. The first rank holds the directory and writes. Ranks above 0 print only their own
    failures.
    """
    secrets.scrub_arguments()
    ranks = distributed.launched()
    if not ranks.is_first:
        logging.getLogger(corridor_exp.__name__).setLevel(logging.ERROR)
    try:
        return _begin_or_go_on(config, directory, should_stop, patience, ranks)
    except (RunError, OSError) as problem:  # a full disk, a folder that is gone
        log.error(
            "%s; nothing that was saved is lost: once it can be written, the same command goes on", in_words(problem)
        )
        return Status.FAILED


def _begin_or_go_on(
    config: Config, directory: Path, should_stop: Callable[[], bool], patience: float, ranks: Ranks
) -> Status:
    with distributed.connected(ranks), ExitStack() as stack:
        with ranks.together():
            if ranks.is_first:
                directory.mkdir(parents=True, exist_ok=True)
                busy = f"{directory} is in use by another process; wait for it, or choose another out_dir"
                stack.enter_context(held(directory / layout.LOCK_FILE, busy, patience))
                refuse_to_start(config, directory)
        ended = ended_before(config, directory)
        has_ended = reading.read_summary(directory).get("status") in layout.ENDED
        ranks.wait()  # until all have read the summary: the first rank removes it next
        return ended or _run(config, directory, should_stop, ranks, has_ended)


def _run(config: Config, directory: Path, should_stop: Callable[[], bool], ranks: Ranks, has_ended: bool) -> Status:
    before: dict[Path, bytes] = {}
    if ranks.is_first:
        before = {file: file.read_bytes() for name in WRITTEN if (file := directory / name).is_file()}
        write_atomically(directory / layout.CONFIG_FILE, to_yaml(config.public()).encode())
        (directory / layout.SUMMARY_FILE).unlink(missing_ok=True)  # a run that is killed now has no summary
    status, engine, problem = Status.FAILED, None, None
    output = Output(config, directory)
    try:
        engine = build_engine(
            config,
            ranks,
            emit=output.emit,
            save=output.save,
            should_stop=should_stop,
            show_progress=ranks.is_first,
        )
        status = _train(engine, config, output)
    except Exception as raised:
        nothing_started = output.mirrors is None and (has_ended or isinstance(raised, UsageError))
        if nothing_started:  # a former run stays as it was
            for file, content in before.items():
                write_atomically(file, content)
        if isinstance(raised, UsageError):
            raise
        problem = raised
        who = f"rank {ranks.rank}: " if ranks.size > 1 else ""
        stays = f"; the run in {directory} stays as it was" if nothing_started else ""
        log.error("%s%s%s", who, _cause(raised), stays, exc_info=not isinstance(raised, EXPECTED))
        if nothing_started:
            return Status.FAILED
    records_lost = isinstance(problem, records.RecordsLostError)
    if ranks.is_first and not (records_lost and not directory.is_dir()):
        error = secrets.clean(_cause(problem)) if problem else None
        summary = {"status": status, "error": error, **environment(), **(outcome(engine) if engine else {})}
        if engine and config.fork_from:
            summary["parent"] = {
                "run": secrets.redact(config.fork_from),
                "step": engine.progress.began,
                "evaluations": in_gradients(engine.progress.inherited),
            }
        write_json(directory / layout.SUMMARY_FILE, summary)
        log.info(_farewell(status, directory, summary, records_lost))
    return status


def _cause(problem: Exception) -> str:
    """Why a run failed, in one line for the `EXPECTED` errors."""
    if isinstance(problem, torch.OutOfMemoryError):
        return "out of memory: set engine.micro_batch to a part of batch_size; the batch stays what it is"
    return in_words(problem) if isinstance(problem, EXPECTED) else f"{type(problem).__name__}: {problem}"


def _train(engine: Engine, config: Config, output: Output) -> Status:
    """Load the checkpoint of an earlier start, train, and write records, mirrors and checkpoints."""
    file = output.directory / layout.RECORDS_FILE
    written = file.stat().st_size if file.exists() else 0
    saved = checkpoint.load_newest(output.directory / layout.CHECKPOINTS, written)
    if saved:
        _refuse_another_machine(saved["environment"], engine, config)
        _go_on_from(saved, engine, config)
        keys = changes(identity(saved["config"]), config.identity()).keys() - LENGTH
        changed = sorted(key for key in keys if key == "seed" or not reading.NOT_EXPERIMENT.fullmatch(key))
        if changed and engine.progress.step >= engine.total_steps:
            raise UsageError(
                f"nothing is left to train with another {', '.join(changed)}: set epochs or max_steps higher, or "
                "choose another out_dir"
            )
        if engine.progress.step > engine.total_steps:
            raise UsageError(
                f"{engine.progress.step} steps are done, and epochs and max_steps allow {max(engine.total_steps, 0)}: "
                "set them higher, or choose another out_dir"
            )
        log.info("going on at step %d of %d", engine.progress.step, engine.total_steps)
    elif parent := config.parent():
        _go_on_from(checkpoint.load_one(parent[0] / layout.CHECKPOINTS, parent[1]), engine, config)
        _leave_the_parent(engine)
        step = engine.progress.step
        log.info("forked from %s at step %d, going on to %d", config.fork_from, step, engine.total_steps)
        if step >= engine.total_steps:
            raise UsageError(f"fork_from={config.fork_from} has nothing left to train: set epochs or max_steps higher")
    if engine.objective.device.type == "cuda":
        fit_to_memory(engine)
    if config.engine.compile and engine.progress.step == 0:
        check_compiled(engine)
    if not engine.ranks.is_first:
        return engine.train()
    status = Status.FAILED
    try:
        keep_bytes, began = (saved["records_bytes"], engine.progress.step) if saved else (0, 0)
        output.open(numerics(engine), keep_bytes, began)
        layout.take_change(output.directory, to_yaml(config.public()).encode())
        write_total_steps(output.directory, engine.total_steps)
        log.info(_greeting(engine, output.directory))
        status = engine.train()
        output.check()
    finally:
        output.close(status)
    return status


def _go_on_from(saved: dict[str, Any], engine: Engine, config: Config) -> None:
    """Load a checkpoint of this run or of another, except for what the configuration has changed since."""
    if lacking := sorted({"config", "engine"} - saved.keys()):
        raise UsageError(f"the checkpoint is not one of corridor-train: it has no {' and no '.join(lacking)}")
    changed = {key for key in changes(identity(saved["config"]), config.identity()) if key != "fork_from"}
    renewed = Renewed(
        micro_batch="engine.micro_batch" in changed,
        random_numbers="seed" in changed,
        optimizer="optim._target_" in changed,
        options=frozenset(key.removeprefix("optim.") for key in changed),
        schedule=bool(changed),
        losses=(other_loss := any(map(OF_THE_LOSS.fullmatch, changed))),
        best=other_loss or "checkpoint.best" in changed,
    )
    try:
        engine.load_state_dict(saved["engine"], renewed)
    except (RuntimeError, ValueError) as error:  # torch's have several lines
        said = " ".join(map(str.strip, str(error).splitlines()[:2]))
        raise UsageError(f"the checkpoint does not fit this model or optimizer: {said}") from None


def _leave_the_parent(engine: Engine) -> None:
    """Begin a fork: it keeps the parent's state and position, and has no metrics, record or best epoch of its own."""
    progress = engine.progress
    progress.began, progress.inherited = progress.step, progress.passes
    progress.pending, progress.last, progress.best = {}, {}, -math.inf
    engine.dataset.skipped = set()  # the images that the fork leaves out are its own
    if engine.at_end_of_epoch:  # the parent was saved before it evaluated, or the fork has fewer images
        engine.loss_sum.zero_()
        progress.next_epoch()


def _refuse_another_machine(old: dict[str, Any], engine: Engine, config: Config) -> None:
    here = numerics(engine)
    lines = difference({**here, **old}, here)  # an older checkpoint lacks some of them
    if lines and not config.resume.override:
        raise UsageError(f"the checkpoint comes from elsewhere ({'; '.join(lines)}); go on by resume.override=true")


def numerics(engine: Engine) -> dict[str, Any]:
    """What a resumed run needs, beside its configuration, to continue with the same bits."""
    return {
        "torch": str(torch.__version__),
        "device": engine.objective.device.type,
        "precision": _precision(engine),  # `auto` is each machine's own choice
        "world_size": engine.ranks.size,
    }


def _precision(engine: Engine) -> str:
    return str(engine.objective.precision or engine.objective.theta[0].dtype).removeprefix("torch.")


# ------------------------------------------------------------------ what is said of a run


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
        "corrupt_images": len(engine.dataset.skipped),
        "batch_size": engine.plan.batch_size,
        "ranks": engine.ranks.size,
        "micro_batch": objective.micro_batch,
        "precision": _precision(engine),
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


def _farewell(status: Status, directory: Path, summary: dict[str, Any], records_lost: bool) -> str:
    metrics = summary.get("metrics", {})
    values = ", ".join(
        f"{key} {metrics[key]:.4g}"
        for key in (records.TRAIN_EPOCH_LOSS, records.TRAIN_LOSS, records.TRAIN_LR, records.TEST_ACCURACY)
        if isinstance(metrics.get(key), float)
    )
    at = f" at step {summary['step']}" if "step" in summary else ""
    again = "" if records_lost else ", the same command tries again"
    advice = {
        Status.PREEMPTED: "; the same command goes on from here",
        Status.DIVERGED: "; θ kept its last finite values",
        Status.FAILED: f"; see {directory / layout.SUMMARY_FILE}{again}",
    }.get(status, "")
    return f"{status}{at}{': ' + values if values else ''}{advice}"
