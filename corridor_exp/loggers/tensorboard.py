"""TensorBoard event files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corridor_exp.errors import UsageError, extra
from corridor_exp.runs.records import Record


class TensorBoard:
    """Mirrors records as scalars into `RUN/tensorboard`; `tensorboard --logdir outputs` shows them."""

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError(f"logger=tensorboard needs tensorboard: {extra('tensorboard')}") from None
        self.open = SummaryWriter
        self.writer: Any = None

    def start(self, directory: Path, config: dict[str, Any], name: str) -> None:
        self.writer = self.open(str(directory / "tensorboard"))

    def log(self, record: Record) -> None:
        for key, value in record.items():
            if "/" in key and isinstance(value, float):
                self.writer.add_scalar(key, value, record["step"])

    def finish(self, status: str) -> None:
        self.writer.close()
