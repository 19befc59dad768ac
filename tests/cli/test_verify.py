"""`corridor-verify`: what it prints where, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from corridor_exp import ledger
from corridor_exp.cli.verify import main
from corridor_exp.ledger import methods, steps
from corridor_exp.ledger.rows import claim
from tests.conftest import exit_code


def verify(*argv: str) -> int:
    return exit_code(main, argv)


def fail() -> float:
    raise OverflowError("math range error")


def test_json_is_a_list_with_the_keys_of_the_contract_and_nothing_else_on_stdout(capsys, monkeypatch) -> None:
    checks = [steps.corridor_step, methods.momentum_position_as_printed, claim("X", "1 = 2", at_most=0)(fail)]
    monkeypatch.setattr(ledger, "CHECKS", checks)
    assert verify("--json") == 1
    out, err = capsys.readouterr()
    rows = json.loads(out, parse_constant=pytest.fail)  # no bare NaN
    assert {frozenset(row) for row in rows} == {frozenset({"statement", "claim", "error", "holds", "misprint"})}
    assert [(row["statement"], row["holds"], row["misprint"]) for row in rows] == [
        ("Eq. 2–3", True, False),
        ("Eq. 11", False, True),
        ("X", False, False),
    ]
    assert rows[2]["error"] == "nan"
    assert err.startswith("corridor-verify: loads torch")


def test_a_red_row_fails_the_command(capsys, monkeypatch) -> None:
    monkeypatch.setattr(ledger, "CHECKS", [steps.corridor_step, methods.momentum_position_as_printed])
    assert verify() == 0
    assert "1 statements hold, 0 fail; 1 slips" in capsys.readouterr().out
    wrong = claim("X", "1 = 2", at_most=0.5)(lambda: 1.0)
    right = claim("Y", "as printed: 1 = 1", at_most=0.5, misprint=True)(lambda: 0.0)
    monkeypatch.setattr(ledger, "CHECKS", [wrong, right])
    assert verify() == 1
    out = capsys.readouterr().out
    assert "X                     FAILS       1.0e+00  1 = 2 (≤ 0.5)\n" in out
    assert "Y                     FAILS       0.0e+00  as printed: 1 = 1 (≤ 0.5) (a known slip of the print" in out


def test_it_names_the_row_that_is_being_checked(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = []

    def look() -> float:
        shown.append(capsys.readouterr().err)
        return 0.0

    monkeypatch.setattr(ledger, "CHECKS", [claim("Lemma X", "0 = 0", at_most=0)(look)] * 2)
    assert verify("--json") == 0
    assert "corridor-verify: loads torch" in shown[0]
    assert "Lemma X:   0%" in shown[0]
    assert "Lemma X:  50%" in shown[1]
    assert "1/2" in shown[1]


def test_it_speaks_before_torch_is_loaded() -> None:
    code = "import sys; sys.modules['torch'] = None; from corridor_exp.cli.verify import main; main([])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stderr.startswith("corridor-verify: loads torch, then checks the paper's statements one by one\n")
