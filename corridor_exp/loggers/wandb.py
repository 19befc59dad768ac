"""Weights & Biases. The only module that imports wandb.

`records.jsonl` is the truth, so a run can be uploaded to W&B at any time and more than once: `upload` sends only what
W&B does not have yet. In online mode a separate process uploads during training, so that no step waits for a network.
"""

from __future__ import annotations

import logging
import netrc
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from corridor_exp.config.secrets import redact
from corridor_exp.errors import RunError, UsageError, in_words
from corridor_exp.files import regular, write_atomically
from corridor_exp.runs import records
from corridor_exp.runs.layout import RECORDS_FILE, UPLOAD_LOG_FILE, WANDB_ID_FILE, Status
from corridor_exp.runs.reading import Run
from corridor_exp.runs.records import Record

log = logging.getLogger(__name__)
PATIENCE = 20.0  # seconds: how long the end of a run waits for its upload
PAUSE = 1.0  # seconds between two deliveries: W&B's thread is slow to wake up


class Wandb:
    """Mirrors records under their own names. A run directory is one W&B run, even if it is resumed.

    Offline by default: `corridor-sync RUN` uploads later. Online needs a key from WANDB_API_KEY, `wandb login` or
    `api_key`. Without a key it stays offline, with a warning.
    """

    def __init__(
        self,
        mode: str = "offline",
        project: str = "corridor",
        entity: str | None = None,
        api_key: str | None = None,
    ) -> None:
        self.online, self.project, self.entity, self.api_key = mode == "online", project, entity, api_key
        self.run: Any = None
        self.waiting: list[Record] = []
        self.delivered = -PAUSE
        self.uploader: subprocess.Popen[bytes] | None = None

    def start(self, directory: Path, config: dict[str, Any], name: str) -> None:
        self.directory = directory
        if self.online:
            refuse_login_in_address()
            if not (self.api_key or has_key()):
                log.warning("no W&B key found (set WANDB_API_KEY); staying offline")
                self.online = False
        if not self.online:
            self.run = _open(directory, config, name, "offline", self.project, self.entity)
            return
        command = [sys.executable, "-m", "corridor_exp.cli.sync", "--follow", f"--project={self.project}"]
        command += [f"--entity={self.entity}"] if self.entity else []
        environment = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}  # it starts its own
        if self.api_key:
            environment["WANDB_API_KEY"] = self.api_key
        with open(directory / UPLOAD_LOG_FILE, "ab") as said:
            self.uploader = subprocess.Popen(
                [*command, str(directory)],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                env=environment,
                start_new_session=True,  # so that signals to the run's process group do not reach it
            )

    def log(self, record: Record) -> None:
        if self.run:
            self.waiting.append(record)
            if time.monotonic() - self.delivered >= PAUSE:
                self._deliver()

    def _deliver(self) -> None:
        for record in self.waiting:
            self.run.log(record, step=record["step"])
        self.waiting.clear()
        self.delivered = time.monotonic()

    def finish(self, status: str) -> None:
        if self.run:
            self._deliver()
            _finish(self.run, status)
        elif self.uploader:
            try:
                self.uploader.communicate(f"{status}\n".encode(), PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self.uploader.pid, signal.SIGTERM)
            if self.uploader.wait():
                raise RunError(f"W&B has not got all of this run; later: corridor-sync {self.directory}")


def upload(
    run: Run,
    project: str | None = None,
    entity: str | None = None,
    how_it_ended: Callable[[], str | None] = lambda: "",
) -> int:
    """Send W&B the records of a run that it does not have yet. Returns how many there were.

    The run must have no faults. While `how_it_ended` returns None, this waits for more records. The default project and
    entity are those of the run's configuration. Raises `RunError` if W&B cannot be reached.
    """
    import wandb

    project = project or run.config.get("logger.wandb.project")
    entity = entity or run.config.get("logger.wandb.entity")
    name = f"{run.config.get('name', 'run')}/{run.directory.name}"
    try:
        mirror = _open(run.directory, redact(run.tree), name, "online", project, entity)
    except wandb.Error as error:
        raise RunError(f"W&B: {in_words(error)}") from None
    sent = 0
    for record in _records_until(how_it_ended, run.directory):
        if record["step"] >= mirror.starting_step:
            mirror.log(record, step=record["step"])
            sent += 1
    _finish(mirror, how_it_ended() or run.status)
    return sent


def _records_until(how_it_ended: Callable[[], str | None], directory: Path) -> Iterator[Record]:
    with open(directory / RECORDS_FILE, "rb") as file:
        while True:
            last = how_it_ended() is not None  # asked before the file is read, so that the last lines are read too
            while (line := file.readline()).endswith(b"\n"):
                yield records.from_json(line)
            if last:
                return
            file.seek(-len(line), os.SEEK_CUR)  # the line is not complete yet
            time.sleep(0.5)


def refuse_login_in_address() -> None:
    """Raise `UsageError` if WANDB_BASE_URL holds a login, which W&B would print."""
    if "@" in os.environ.get("WANDB_BASE_URL", ""):
        raise UsageError("WANDB_BASE_URL holds a login, which W&B would print: give the key in WANDB_API_KEY")


def _open(
    directory: Path, config: dict[str, Any], name: str, mode: str, project: str | None, entity: str | None
) -> Any:
    """Begin or continue the W&B run of a run directory."""
    import wandb

    run = wandb.init(
        project=project,
        entity=entity,
        name=name,
        id=_run_id(directory / WANDB_ID_FILE),
        resume="allow",
        dir=directory.absolute(),
        config=config,
        mode=mode,  # type: ignore[arg-type]
        settings=wandb.Settings(
            silent=True,
            console="off",
            x_disable_stats=True,
            x_save_requirements=False,  # the list of all packages takes longer than a small run
            disable_git=True,
            disable_code=True,
        ),
    )
    run.define_metric("*", step_metric="step")
    return run


def _run_id(file: Path) -> str:
    """The W&B id in a run directory; a new id if the file is missing or damaged."""
    try:
        kept = regular(file).read_text().strip()
    except (OSError, UnicodeDecodeError):
        kept = ""
    if re.fullmatch(r"[\w-]{1,64}", kept):
        return kept
    new = uuid.uuid4().hex[:12]
    write_atomically(file, new.encode())
    return new


def _finish(run: Any, status: str) -> None:
    run.summary["status"] = status
    run.finish(exit_code=1 if status in (Status.FAILED, Status.DIVERGED) else 0)


def has_key() -> bool:
    """Whether a key is in the environment or was stored by `wandb login`. Uses no network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        stored = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    return stored.authenticators(host) is not None
