"""`corridor-verify` must hold for the paper, and must turn red for every error planted in `theory`."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from corridor_exp import ledger
from corridor_exp.cli.verify import main
from corridor_exp.theory import flows, stepsizes, surfaces

MISPRINTS = {"Example 2.2", "Theorem 3.1 ⇐", "§4.1", "Eq. 11", "Eq. 12", "Eq. 18"}


def test_every_statement_holds_and_every_misprint_fails() -> None:
    rows = ledger.ledger()
    assert [row for row in rows if row.holds == row.misprint] == []
    assert {row.statement for row in rows if row.misprint} == MISPRINTS
    assert all(torch.isfinite(torch.tensor(row.error)) for row in rows)


def test_json_has_the_keys_of_the_contract(capsys, monkeypatch) -> None:
    monkeypatch.setattr(ledger, "CHECKS", [ledger.equations_2_and_3, ledger.lemma_a_1])
    with pytest.raises(SystemExit) as exit_:
        main(["--json"])
    assert not exit_.value.code
    rows = json.loads(capsys.readouterr().out)
    assert {frozenset(row) for row in rows} == {frozenset({"statement", "claim", "error", "holds", "misprint"})}
    assert any(row["misprint"] and not row["holds"] for row in rows)


def test_a_failing_statement_fails_the_command(capsys, monkeypatch) -> None:
    monkeypatch.setattr(ledger, "CHECKS", [lambda: iter([ledger.Row("X", "1 = 2", 1.0, False)])])
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert exit_.value.code == 1
    assert "X                 FAILS" in capsys.readouterr().out


def half_of(f: Callable) -> Callable:
    return lambda *args, **kwargs: f(*args, **kwargs) / 2


def minus(f: Callable) -> Callable:
    return lambda *args, **kwargs: -f(*args, **kwargs)


def sgd_field(last_term: float) -> Callable:
    """Eq. 20 with its last term times a factor, and the sign of ∇‖g‖² by `first`."""

    def modified(batch_gradients, h, first: float = 1.0):
        m = len(batch_gradients)
        factor = m if last_term == "without 1/m" else last_term

        def field(theta):
            with torch.enable_grad():
                point = theta.detach().requires_grad_()
                each = [g(point) for g in batch_gradients]
                g = torch.stack(each).mean(0)
                spread = sum((g - e).square().sum() for e in each)
                penalty = first * h / 4 * g.square().sum() + factor * h / (4 * m) * spread
                (implicit,) = torch.autograd.grad(penalty, point)
            return g.detach() + implicit

        return field

    return modified


def wrong_sign_field(batch_gradients, h):
    return sgd_field(1.0)(batch_gradients, h, first=-1.0)


def slow_descent(g, theta, h, steps):
    for _ in range(steps):
        theta = theta - 1.01 * h * g(theta)
        yield theta


def rk4_without_h(g, theta, h):
    return theta + (flows_rk4(g, theta, h) - theta) / h


flows_rk4 = flows.rk4_step
original_drift = flows.descent_drift
original_hg = surfaces.hessian_gradient
original_clr = stepsizes.clr

PLANTED: list[tuple[str, ModuleType, str, Callable, Callable, set[str]]] = [
    ("a wavy cone", surfaces, "cone", lambda *_: surfaces.wavy_cone(), ledger.examples_2_2_to_2_6, {"Example 2.3"}),
    (
        "no offset",
        surfaces,
        "offset_surface",
        lambda *_: surfaces.wavy_cone(),
        ledger.examples_2_2_to_2_6,
        {"Example 2.5"},
    ),
    (
        "a jump at a seam",
        surfaces.GluedSurface,
        "piece",
        lambda self, i, d: i + self.slopes[i] * d,
        ledger.examples_2_2_to_2_6,
        {"Example 2.6"},
    ),
    ("A for A²", surfaces, "quadratic_hg", lambda A, b, t: t @ A + b, ledger.example_2_7_and_appendix_c, {"Eq. 21"}),
    ("sign of Hg", surfaces, "hessian_gradient", minus(original_hg), ledger.lemma_2_8, {"Lemma 2.8"}),
    (
        "‖g‖ for ‖g‖²",
        surfaces,
        "loss_on_the_line",
        lambda loss, norm_sq, t: loss - t * norm_sq.sqrt(),
        ledger.lemma_2_9_and_proposition_2_10,
        {"Proposition 2.10"},
    ),
    (
        "Hg := g",
        surfaces,
        "hessian_gradient",
        lambda E, t: surfaces.gradient(E, t),
        ledger.theorem_2_11,
        {"Theorem 2.11"},
    ),
    ("h off by 1 %", flows, "gradient_descent", slow_descent, ledger.theorem_3_1_forward, {"Theorem 3.1 ⇒"}),
    (
        "sign of the drift",
        flows,
        "descent_drift",
        minus(original_drift),
        ledger.theorem_3_1_backward,
        {"Theorem 3.1 ⇐"},
    ),
    ("½ too much", flows, "descent_drift", half_of(original_drift), ledger.theorem_3_1_backward, {"Theorem 3.1 ⇐"}),
    ("a factor 2", stepsizes, "clr", half_of(original_clr), ledger.equations_2_and_3, {"Eq. 2–3"}),
    (
        "β^{t−1}",
        flows,
        "momentum_velocity",
        lambda g0, h, beta, t: -h * (1 - beta ** (t - 1)) / (1 - beta) * g0,
        ledger.lemma_a_1,
        {"Eq. 7", "Eq. 8"},
    ),
    (
        "Eq. 12 as printed",
        flows,
        "momentum_speed",
        lambda n, beta, exponent_shift=0: (1 - beta**n) / (1 - beta),
        ledger.remark_a_3,
        {"Eq. 12"},
    ),
    ("Eq. 18 as printed", flows, "rk4_step", rk4_without_h, ledger.appendix_a_2, {"Eq. 14–18"}),
    ("the last term dropped", flows, "sgd_modified_field", sgd_field(0.0), ledger.appendix_a_3, {"Eq. 19–20"}),
    ("the last term doubled", flows, "sgd_modified_field", sgd_field(2.0), ledger.appendix_a_3, {"Eq. 19–20"}),
    ("without 1/m", flows, "sgd_modified_field", sgd_field("without 1/m"), ledger.appendix_a_3, {"Eq. 19–20"}),
    ("the sign of ∇‖g‖²", flows, "sgd_modified_field", wrong_sign_field, ledger.appendix_a_3, {"Eq. 19–20"}),
]


@pytest.mark.parametrize(("name", "module", "function", "wrong", "check", "red"), PLANTED, ids=[p[0] for p in PLANTED])
def test_a_planted_error_turns_its_row_red(name, module, function, wrong, check, red, monkeypatch) -> None:
    monkeypatch.setattr(module, function, wrong)
    failed = {row.statement for row in check() if not row.holds and not row.misprint}
    assert red <= failed
