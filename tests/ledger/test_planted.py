"""Every error planted in `theory` or `optim` turns red the rows that speak of it, and no other of their section."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from corridor_exp.ledger import Check, descent, methods
from corridor_exp.theory import flows, surfaces
from tests.ledger.planted import PLANTED, Planted, gradient

pytestmark = pytest.mark.timeout(60)


def red_rows(section: ModuleType) -> set[str]:
    checks = [check for check in vars(section).values() if isinstance(check, Check)]
    return {check.name for check in checks if check.row().red}


def overflows(*args: Any, **kwargs: Any) -> Any:
    raise OverflowError("math range error")


def no_gradient(E, theta, create_graph=False):
    return torch.nan * gradient(E, theta, create_graph)


def steep_gradient(E, theta, create_graph=False):
    return 1e6 * gradient(E, theta, create_graph)


@pytest.mark.parametrize(
    ("section", "planted"),
    [pytest.param(section, planted, id=planted.error) for section, each in PLANTED.items() for planted in each],
)
def test_a_planted_error_turns_its_rows_red_and_no_other(section: ModuleType, planted: Planted, monkeypatch) -> None:
    monkeypatch.setattr(f"corridor_exp.{planted.place}", planted.wrong)
    assert red_rows(section) == planted.red


TABLEAU = [(i, j) for i, row in enumerate(flows._A) for j, coefficient in enumerate(row) if coefficient]


@pytest.mark.parametrize(("row", "column"), TABLEAU)
def test_a_wrong_coefficient_of_dormand_and_prince_is_seen(row: int, column: int, monkeypatch) -> None:
    table = [list(coefficients) for coefficients in flows._A]
    table[row][column] *= 1.01
    monkeypatch.setattr(flows, "_A", table)
    assert descent.polynomial_of_a_flow_step.row().red


@pytest.mark.parametrize("column", [i for i, weight in enumerate(flows._ERROR) if weight])
def test_a_wrong_weight_of_its_error_is_seen(column: int, monkeypatch) -> None:
    weights = list(flows._ERROR)
    weights[column] *= 1.01
    monkeypatch.setattr(flows, "_ERROR", weights)
    assert descent.order_of_the_estimate.row().red


@pytest.mark.parametrize("wrong", [no_gradient, steep_gradient], ids=["not a number", "a million times too steep"])
def test_a_flow_that_cannot_end_is_given_up(wrong, monkeypatch) -> None:
    monkeypatch.setattr(surfaces, "gradient", wrong)
    assert red_rows(descent) == {check.name for check in vars(descent).values() if isinstance(check, Check)} - {
        "polynomial_of_a_flow_step",  # these three have gradients of their own
        "descent_for_one_step_size",
        "hg_for_one_step_size",
    }
    row = descent.gradient_flow.row()
    assert "raised ArithmeticError: the gradient flow" in row.claim


def test_an_exception_is_a_red_row_that_names_it_and_the_other_rows_go_on(monkeypatch) -> None:
    monkeypatch.setattr(flows, "rk4_step", overflows)
    assert red_rows(methods) == {"runge_kutta_in_corridors", "order_of_runge_kutta"}
    assert methods.runge_kutta_in_corridors.row().claim.endswith("raised OverflowError: math range error")
