"""The destinations of a run's records and checkpoints: its directory and the mirrors."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from corridor_exp.config.schema import Config
from corridor_exp.engine.state import State
from corridor_exp.loggers import Mirrors
from corridor_exp.runs import checkpoint, layout, records

log = logging.getLogger(__name__)


class Output:
    """Takes the records and states of an engine. It drops them until it is open; on ranks above 0 it never is."""

    def __init__(self, config: Config, directory: Path) -> None:
        self.config, self.directory = config, directory
        self.stack = ExitStack()
        self.mirrors: Mirrors | None = None

    def open(self, environment: dict[str, Any], keep_bytes: int, began: int) -> None:
        """Go on from step `began`, after the first `keep_bytes` bytes of the records; later bytes are dropped.

        `environment` becomes part of each checkpoint.
        """
        self.environment = environment
        self.writer = records.RecordWriter(self.directory, keep_bytes)
        self.stack.callback(self.writer.close)
        if dropped := self.writer.dropped:
            log.warning("%s bytes of records are newer than the checkpoint: dropped, and trained again", f"{dropped:,}")
        folder, keep = self.directory / layout.CHECKPOINTS, self.config.checkpoint.keep
        self.saver = checkpoint.Saver(folder, keep, before=self.writer.sync, began=began)
        self.stack.callback(self.saver.close)
        self.mirrors = Mirrors([option.build() for option in self.config.logger.values()])
        name = f"{self.config.name}/{self.directory.name}"
        self.mirrors.start(self.directory, self.config.public(), name)

    def emit(self, record: records.Record) -> None:
        if self.mirrors:
            self.writer.write(record)
            self.mirrors.log(record)
            self.saver.raise_error()

    def save(self, state: State, kind: checkpoint.Kind = "step") -> None:
        if self.mirrors:
            about = {"environment": self.environment, "config": self.config.public()}
            step = state["progress"]["step"]
            self.saver.save(step, {"engine": state, **about, "records_bytes": self.writer.bytes}, kind)

    def check(self) -> None:
        """Raise `RunError` if the last checkpoint could not be written, or if records are lost."""
        self.saver.wait()
        self.writer.check()  # a diverged run saves no checkpoint, so nothing else checks

    def close(self, status: str) -> None:
        """Close the mirrors too: an open one would get the records of the sweep's next run."""
        with self.stack:
            if self.mirrors:
                self.mirrors.finish(status)
