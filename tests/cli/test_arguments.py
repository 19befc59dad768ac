"""What all commands have in common."""

from __future__ import annotations

from types import ModuleType

import pytest

from corridor_exp.cli import atlas, figures, report, sweep, sync, train, tune, verify
from tests.conftest import exit_code

COMMANDS = {atlas: ["run"], figures: ["fig1"], report: [], sweep: [], sync: ["run"], train: [], tune: [], verify: []}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_control_c_is_one_line_and_75(command: ModuleType, capsys, monkeypatch) -> None:
    def stop(args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_main", stop)
    assert exit_code(command.main, COMMANDS[command]) == 75
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(": stopped; the same command begins again")
