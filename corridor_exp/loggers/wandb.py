"""Weights & Biases. The only module that imports wandb."""

from __future__ import annotations

import netrc
import os
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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

        online = self.mode == "online"
        if online and not (self.api_key or _has_key()):
            print("corridor-train: no W&B key found (set WANDB_API_KEY); staying offline", file=sys.stderr)
            online = False
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
            mode="online" if online else "offline",
            settings=wandb.Settings(
                api_key=self.api_key,
                silent=True,
                console="off",
                x_disable_stats=True,
                disable_git=True,
                disable_code=True,
            ),
        )
        self.run.define_metric("*", step_metric="step")

    def log(self, record: Record) -> None:
        self.run.log(record, step=record["step"])

    def finish(self, status: str) -> None:
        self.run.summary["status"] = status
        self.run.finish(exit_code=0 if status == "completed" else 1)


def _has_key() -> bool:
    """Whether a key is in the environment or was stored by `wandb login`, without asking and without a network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        stored = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    return stored.authenticators(host) is not None
