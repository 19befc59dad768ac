"""Weights & Biases. The only module that imports wandb."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path
from typing import Any

from corridor_exp.records import Record

RUN_ID_FILE = "wandb_run_id"


class Wandb:
    """Mirrors records under their own names, one W&B run a run directory however often it is resumed.

    Offline by default: `wandb sync RUN/wandb/offline-run-*` uploads later. Online needs a key, from WANDB_API_KEY,
    `wandb login` or `api_key`; without one it says so and stays offline.
    """

    def __init__(
        self,
        mode: str = "offline",
        project: str = "corridor",
        entity: str | None = None,
        api_key: str | None = None,
    ) -> None:
        self.mode, self.project, self.entity, self.api_key = mode, project, entity, api_key
        self.run: Any = None

    def start(self, directory: Path, config: dict[str, Any], name: str) -> None:
        import wandb

        if self.mode == "online" and not (self.api_key or wandb.api.api_key):
            print("corridor-train: no W&B key found (set WANDB_API_KEY); staying offline", file=sys.stderr)
            self.mode = "offline"
        if self.api_key:
            os.environ["WANDB_API_KEY"] = self.api_key
        id_file = directory / RUN_ID_FILE
        if not id_file.exists():
            id_file.write_text(uuid.uuid4().hex[:12])
        self.run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=name,
            id=id_file.read_text(),
            resume="allow",
            dir=directory,
            config=config,
            mode="online" if self.mode == "online" else "offline",
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, disable_git=True, disable_code=True
            ),
        )
        self.run.define_metric("*", step_metric="step")

    def log(self, record: Record) -> None:
        self.run.log(record, step=record["step"])

    def finish(self, status: str) -> None:
        self.run.summary["status"] = status
        self.run.finish(exit_code=0 if status == "completed" else 1)
