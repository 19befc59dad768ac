"""W&B as a mirror: against a server on this machine, one that is not there, and none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corridor_exp.cli import sync
from corridor_exp.engine.loop import Engine
from corridor_exp.errors import UsageError
from corridor_exp.loggers import wandb
from corridor_exp.runs import layout, records
from tests.conftest import until
from tests.loggers.wandb_server import WandbServer

Run = Callable[..., int]
RUN = ["logger=wandb", "epochs=10", "log_every=1", "probe=none", "out_dir=out"]  # 30 steps
ONLINE = "logger.wandb.mode=online"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    with WandbServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")


@pytest.fixture
def stopped_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """`stopped_at(k)`: every run from now on is told to stop after step k."""
    train = Engine.train

    def stop(step: int | None) -> None:
        def stopped(engine: Engine) -> str:
            engine.should_stop = lambda: engine.progress.step == step
            return train(engine)

        monkeypatch.setattr(Engine, "train", stopped)

    return stop


def told() -> list[records.Record]:
    return list(records.read_records(Path("out")))


def synced() -> str:
    """What `corridor-sync out` says, as typed: in a process that shares nothing with this one's wandb."""
    command = [sys.executable, "-m", "corridor_exp.cli.sync", "out"]
    alone = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=alone).stdout


def without_wandb(lines: list[dict]) -> list[dict]:
    return [{key: value for key, value in line.items() if not key.startswith("_")} for line in lines]


def test_row_13_requeued_offline_a_run_has_one_id_and_after_sync_one_history(
    digits_run: Run, server: WandbServer, stopped_at
) -> None:
    ids = set()
    for step in (7, 15, 22, None):
        stopped_at(step)
        assert digits_run(*RUN) == (75 if step else 0)
        ids.add(Path("out", layout.WANDB_ID_FILE).read_text())
    assert len(list(Path("out/wandb").glob("offline-run-*"))) == 4
    (run,) = ids
    assert "30 records uploaded" in synced()
    assert without_wandb(server.history[run]) == told()
    assert [line["_step"] for line in server.history[run]] == list(range(30))
    assert "0 records uploaded" in synced()
    assert len(server.history[run]) == 30


def test_online_a_resumed_run_has_one_history_under_the_records_names(
    digits_run: Run, server: WandbServer, stopped_at
) -> None:
    for step in (7, None):
        stopped_at(step)
        assert digits_run(*RUN, ONLINE) == (75 if step else 0)
    ((run, history),) = server.history.items()
    assert run == Path("out", layout.WANDB_ID_FILE).read_text()
    assert without_wandb(history) == told()
    assert server.ended[run] == 0


def test_after_a_kill_what_is_trained_again_is_not_sent_again(
    digits_run: Run, server: WandbServer, monkeypatch
) -> None:
    train = Engine.train

    def killed(engine: Engine) -> str:  # as the disk has it after a kill: records beyond the last checkpoint
        engine.save = lambda state: None
        engine.should_stop = lambda: engine.progress.step == 7
        return train(engine)

    monkeypatch.setattr(Engine, "train", killed)
    digits_run(*RUN, ONLINE)
    monkeypatch.setattr(Engine, "train", train)
    assert digits_run(*RUN, ONLINE) == 0
    (history,) = server.history.values()
    assert [line["step"] for line in history] == list(range(30))


def test_row_12_an_unreachable_server_holds_nothing_up_and_the_cure_is_printed(
    digits_run: Run, no_server: None, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(wandb, "PATIENCE", 3.0)
    begun = time.monotonic()
    assert digits_run(*RUN, ONLINE) == 0
    assert time.monotonic() - begun < 15
    err = capsys.readouterr().err
    assert f"corridor-sync {Path('out').absolute()}" in err
    assert [record["step"] for record in told()] == list(range(30))
    assert json.loads(Path("out/summary.json").read_text())["status"] == "completed"


@pytest.mark.slow
def test_row_12_a_server_that_goes_away_holds_nothing_up_either_and_later_gets_the_rest(
    digits_run: Run, server: WandbServer, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(wandb, "PATIENCE", 3.0)
    train = Engine.train

    def cut_off(engine: Engine) -> str:
        emit = engine.emit

        def after_ten(record: records.Record) -> None:
            if record["step"] == 10:
                deadline = time.monotonic() + 60
                while not any(server.history.values()):
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                server.answers = False
            emit(record)

        engine.emit = after_ten
        return train(engine)

    monkeypatch.setattr(Engine, "train", cut_off)
    assert digits_run(*RUN, ONLINE) == 0
    assert "corridor-sync" in capsys.readouterr().err
    (history,) = server.history.values()
    assert 0 < len(history) < 30
    server.answers = True
    synced()
    assert without_wandb(history) == told()


@pytest.mark.parametrize(
    ("argv", "said"),
    [(["nowhere"], "no run lies in nowhere"), (["."], "set WANDB_API_KEY"), ([], "DIR")],
)
def test_bad_usage_of_corridor_sync_is_one_line(monkeypatch, capsys, argv: list[str], said: str) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "none")
    Path("records.jsonl").touch()
    with pytest.raises(SystemExit) as exit_:
        sync.main(argv)
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_login_in_the_address_of_wandb_is_refused_before_it_is_printed(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://user:hunter2pw@127.0.0.1:9")
    Path("records.jsonl").touch()
    with pytest.raises(SystemExit):
        sync.main(["."])
    with pytest.raises(UsageError, match="WANDB_BASE_URL holds a login"):
        wandb.Wandb(mode="online").start(tmp_path, {}, "name")
    err = capsys.readouterr().err
    assert "WANDB_BASE_URL holds a login" in err
    assert "hunter2pw" not in err


def test_the_uploader_learns_the_end_also_while_a_worker_holds_its_pipe_open(monkeypatch) -> None:
    reading, writing = os.pipe()
    with open(reading) as stdin, open(writing, "w") as held_open:
        monkeypatch.setattr("sys.stdin", stdin)
        how_it_ended = sync._as_standard_input_says()
        assert how_it_ended() is None
        held_open.write("completed\n")
        held_open.flush()
        until(how_it_ended)
        assert how_it_ended() == "completed"
