from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from corridor_exp.config.logs import log_to_stderr
from corridor_exp.loggers import Mirrors, TensorBoard, Wandb


class Broken:
    def start(self, *_: Any) -> None: ...

    def log(self, record: dict[str, Any]) -> None:
        raise ConnectionError("no route to host")

    def finish(self, status: str) -> None:
        raise AssertionError("a dropped mirror is not asked again")


class Kept:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def start(self, *_: Any) -> None: ...

    def log(self, record: dict[str, Any]) -> None:
        self.seen.append(record)

    def finish(self, status: str) -> None:
        self.seen.append(status)


def test_a_mirror_that_fails_is_logged_once_and_dropped(capsys) -> None:
    log_to_stderr("corridor-train")
    kept = Kept()
    mirrors = Mirrors([Broken(), kept])
    mirrors.start(Path(), {}, "x")
    mirrors.log({"step": 0})
    mirrors.log({"step": 1})
    mirrors.finish("completed")
    (told,) = capsys.readouterr().err.splitlines()
    assert "no route to host" in told
    assert kept.seen == [{"step": 0}, {"step": 1}, "completed"]


def test_wandb_writes_offline_under_one_id_however_often_it_is_resumed(tmp_path: Path) -> None:
    ids = set()
    for start in range(2):
        logger = Wandb()
        logger.start(tmp_path, {"seed": 0}, "name")
        ids.add(logger.run.id)
        logger.log({"step": start, "epoch": 0, "time": 0.1, "train/loss": math.nan})
        logger.finish("completed")
    assert ids == {(tmp_path / "wandb_run_id").read_text()}
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2


def test_online_without_a_key_stays_offline_and_says_so(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    logger = Wandb(mode="online")
    logger.start(tmp_path, {}, "name")
    logger.finish("completed")
    assert "staying offline" in capsys.readouterr().err


def test_tensorboard_holds_the_scalars(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoard()
    logger.start(tmp_path, {}, "name")
    for step, loss in enumerate((2.0, 1.0)):
        logger.log({"step": step, "epoch": 0, "time": 0.1, "train/loss": loss})
    logger.finish("completed")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(0, 2.0), (1, 1.0)]


def test_a_missing_tensorboard_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from corridor_exp.errors import UsageError

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"\[tensorboard\]"):
        TensorBoard()
