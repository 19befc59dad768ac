"""What the package logs, as a command shows it."""

from __future__ import annotations

import logging

from corridor_exp.config import secrets
from corridor_exp.config.logs import log_to_stderr


def test_a_message_is_one_line_of_the_command_without_secrets(capsys, monkeypatch) -> None:
    monkeypatch.setattr(secrets, "_learnt", set())
    secrets.learn({"token": "hunter2hunter2"})
    log_to_stderr("corridor-train")
    log_to_stderr("corridor-sweep")  # the later one holds
    for name in ("corridor_exp.engine.run", "__main__"):
        logging.getLogger(name).info("%d runs of https://me:secret@host and %s", 3, "hunter2hunter2")
        logging.getLogger(name).debug("not shown")
    logging.getLogger("another.library").info("not shown either")
    out, err = capsys.readouterr()
    assert err == "corridor-sweep: 3 runs of https://<redacted>@host and <redacted>\n" * 2
    assert out == ""


def test_a_traceback_is_shown_without_secrets(capsys, monkeypatch) -> None:
    monkeypatch.setattr(secrets, "_learnt", set())
    secrets.learn({"token": "hunter2hunter2"})
    log_to_stderr("corridor-train")
    try:
        raise ValueError("hunter2hunter2")
    except ValueError:
        logging.getLogger("corridor_exp.engine.run").exception("it failed")
    err = capsys.readouterr().err
    assert err.startswith("corridor-train: it failed\nTraceback")
    assert err.endswith("ValueError: <redacted>\n")
