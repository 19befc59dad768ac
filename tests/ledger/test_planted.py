"""Every error planted in `theory` or `optim` turns red the rows that speak of it, and no other of their section."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch

from corridor_exp.ledger import Check, contraction, corridors, descent, measures, methods, quadratics, steps
from corridor_exp.optim import Descent
from corridor_exp.theory import flows, stepsizes, surfaces, vectors
from corridor_exp.theory import measures as formulas

pytestmark = pytest.mark.timeout(60)


def red_rows(section: ModuleType) -> set[str]:
    checks = [check for check in vars(section).values() if isinstance(check, Check)]
    return {check.name for check in checks if check.row().red}


def times(factor: float, f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: factor * f(*args, **kwargs)


def squared(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: f(*args) ** 2


def one_minus(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: 1 - f(*args)


def overflows(*args: Any, **kwargs: Any) -> Any:
    raise OverflowError("math range error")


def sgd_field(first_term: float = 1.0, last_term: float = 1.0, divide: bool = True) -> Callable[..., Any]:
    """Eq. 20 with its regularization terms times a factor, and the last one's 1/m."""

    def modified(batch_gradients, h):
        def field(theta):
            with torch.enable_grad():
                point = theta.detach().requires_grad_()
                each = torch.stack([g(point) for g in batch_gradients])
                g = each.mean(0)
                spread = (g - each).square().sum() / (len(each) if divide else 1)
                penalty = first_term * g.square().sum() + last_term * spread
                (implicit,) = torch.autograd.grad(h / 4 * penalty, point)
            return g.detach() + implicit

        return field

    return modified


def descent_off_by_one_percent(g, theta, h, steps):
    for _ in range(steps):
        theta = theta - 1.01 * h * g(theta)
        yield theta


def rk4_without_h(g, theta, h):
    return theta + (rk4_step(g, theta, h) - theta) / h


def f_star_with_the_wrong_sign(self, params, *, f_star=0.0, **options):
    descent_init(self, params, f_star=-f_star, **options)


def clr_upside_down(loss, grad_norm_sq, scale=1.0):
    return loss.clamp(min=0) / grad_norm_sq / scale


def no_gradient(E, theta, create_graph=False):
    return torch.nan * gradient(E, theta, create_graph)


def steep_gradient(E, theta, create_graph=False):
    return 1e6 * gradient(E, theta, create_graph)


clr, descent_init, rk4_step = stepsizes.clr, Descent.__init__, flows.rk4_step
momentum, gradient_flow = flows.momentum, flows.gradient_flow
index, alignment, decrease = formulas.corridor_index, formulas.gradient_alignment, formulas.decrease_ratio
after, change = formulas.after, formulas.relative_change
gradient, hessian_gradient = surfaces.gradient, surfaces.hessian_gradient


class Planted(NamedTuple):
    error: str
    where: Any
    name: str
    wrong: Any
    section: ModuleType
    red: set[str]


AFTER_GRADIENT = {"characterization", "derivatives_of_a_cone", "flow_of_a_bowl", "loss_on_the_line"}
ON_CONES = {"circle_of_a_cone", "derivatives_of_a_cone", "height_of_the_concave_cone"}
ON_LINES = {"gradient_on_the_line", "loss_on_the_line"}
SGD = {"modified_flow_of_sgd", "sgd_in_a_corridor"}

AT_MIDPOINT = {"secant_of_powers", "alignment_of_powers", "alignment_of_bowls"}
TANGENT = {"index_of_powers", "secant_of_bowls"}
ALIGNMENT = {"alignment_of_powers", "alignment_of_bowls"}
DECREASE = {"decrease_of_powers", "decrease_of_bowls", "alignment_of_bowls"}

BOUNDS = {"bound_of_the_contraction", "bound_under_a_cap"}
ALL_OF_CONTRACTION = {check.name for check in vars(contraction).values() if isinstance(check, Check)}
PLANTED = [
    # Section 2
    Planted(
        "the wavy cone for the cone",
        surfaces,
        "cone",
        lambda *_: surfaces.wavy_cone(),
        corridors,
        ON_CONES
        | ON_LINES
        | {"hg_on_the_convex_cone", "hg_on_the_concave_cone", "flow_in_a_corridor", "characterization"},
    ),
    Planted(
        "a cone over two of n dimensions",
        surfaces,
        "cone",
        lambda alpha=1.0, beta=0.0: lambda theta: beta + alpha * theta[..., :2].norm(dim=-1),
        corridors,
        ON_CONES | ON_LINES,
    ),
    Planted(
        "a distance times 1.5",
        surfaces,
        "signed_distance",
        times(1.5, surfaces.signed_distance),
        corridors,
        {"height_of_ruled_surfaces", "distance_to_seams", "height_of_strips"},
    ),
    Planted(
        "the wavy cone for a ruled surface",
        surfaces,
        "offset_surface",
        lambda *_: surfaces.wavy_cone(),
        corridors,
        ON_LINES | {"hg_around_an_ellipse", "height_of_ruled_surfaces", "flow_in_a_corridor", "characterization"},
    ),
    Planted(
        "a jump at a seam",
        surfaces.GluedSurface,
        "piece",
        lambda self, i, d: i + self.slopes[i] * d,
        corridors,
        {"continuity_of_strips", "height_of_strips"},
    ),
    Planted(
        "the sign of g",
        surfaces,
        "gradient",
        times(-1, gradient),
        corridors,
        AFTER_GRADIENT | {"velocity_on_the_bowl_corrected"},
    ),
    Planted(
        "the sign of Hg",
        surfaces,
        "hessian_gradient",
        times(-1, hessian_gradient),
        corridors,
        {"hg_on_the_bowl", "rate_of_the_gradient"},
    ),
    Planted(
        "Hg := g",
        surfaces,
        "hessian_gradient",
        lambda E, theta: gradient(E, theta),
        corridors,
        {
            "hg_on_a_linear_piece",
            "hg_on_the_convex_cone",
            "hg_on_the_concave_cone",
            "hg_around_an_ellipse",
            "hg_on_strips",
            "hg_on_the_wavy_cone",
            "rate_of_the_gradient",
            "characterization",
        },
    ),
    Planted(
        "‖g‖ for ‖g‖²",
        surfaces,
        "loss_on_the_line",
        lambda loss, norm_sq, t: loss - t * norm_sq.sqrt(),
        corridors,
        {"loss_on_the_line"},
    ),
    Planted(
        "a flow of half the time",
        flows,
        "gradient_flow",
        lambda g, theta, duration, **options: gradient_flow(g, theta, duration / 2, **options),
        corridors,
        {"flow_of_a_bowl", "flow_in_a_corridor"},
    ),
    # Section 3
    Planted(
        "h off by 1 %",
        flows,
        "gradient_descent",
        descent_off_by_one_percent,
        descent,
        {"descent_in_corridors", "drift_of_descent", "drift_of_stochastic_descent", "drift_by_batch_size"},
    ),
    Planted(
        "the sign of the drift",
        flows,
        "descent_drift",
        times(-1, flows.descent_drift),
        descent,
        {"drift_of_descent"},
    ),
    Planted(
        "½ too much in the drift",
        flows,
        "descent_drift",
        times(0.5, flows.descent_drift),
        descent,
        {"drift_of_descent"},
    ),
    # Section 4
    Planted(
        "a factor 2 in CLR",
        stepsizes,
        "clr",
        times(2, clr),
        steps,
        {
            "corridor_step",
            "corridor_optimizer",
            "polyak",
            "hazan_kakade",
            "scaled_corridor_step",
            "stochastic_polyak",
            "bounded_step",
            "decreasing_polyak",
        },
    ),
    Planted(
        "CLR without its scale",
        stepsizes,
        "clr",
        lambda loss, grad_norm_sq, scale=1.0: clr(loss, grad_norm_sq),
        steps,
        {"hazan_kakade", "scaled_corridor_step", "stochastic_polyak"},
    ),
    Planted(
        "CLR divided by its scale",
        stepsizes,
        "clr",
        clr_upside_down,
        steps,
        {"hazan_kakade", "scaled_corridor_step", "stochastic_polyak"},
    ),
    Planted(
        "a CLR that may be negative",
        stepsizes,
        "clr",
        lambda loss, grad_norm_sq, scale=1.0: scale * loss / grad_norm_sq,
        steps,
        {"polyak_below_the_bound"},
    ),
    Planted(
        "the sign of f*",
        Descent,
        "__init__",
        f_star_with_the_wrong_sign,
        steps,
        {"polyak", "polyak_below_the_bound", "stochastic_polyak"},
    ),
    Planted(
        "momentum CLR's sign",
        stepsizes,
        "clr_momentum",
        lambda loss, grad_norm_sq, slope: (loss - slope).clamp(min=0) / grad_norm_sq,
        steps,
        {"corridor_step_with_momentum"},
    ),
    Planted(
        "DecSPS without /c",
        stepsizes,
        "decsps",
        lambda loss, grad_norm_sq, bound, c: clr(loss, grad_norm_sq).minimum(bound),
        steps,
        {"decreasing_polyak"},
    ),
    Planted("DAL's factor", stepsizes, "dal", times(0.5, stepsizes.dal), steps, {"drift_adjusted"}),
    Planted(
        "a norm without its root",
        vectors,
        "norm",
        lambda u: vectors.inner(u, u, torch.float64),
        steps,
        {"drift_adjusted"},
    ),
    # Appendix A
    Planted(
        "momentum with dampening",
        flows,
        "momentum",
        lambda g, theta, h, beta, *more: momentum(g, theta, h * (1 - beta), beta, *more),
        methods,
        {"momentum", "momentum_velocity", "momentum_position"},
    ),
    Planted(
        "β^{t−1} for β^t",
        flows,
        "momentum_velocity",
        lambda g0, h, beta, t: -h * (1 - beta ** (t - 1)) / (1 - beta) * g0,
        methods,
        # Eq. 12 as printed is what goes with this Eq. 7, so that it holds.
        {"momentum_velocity", "momentum_position", "momentum_flow", "momentum_flow_as_printed"},
    ),
    Planted(
        "Eq. 12 as printed",
        flows,
        "momentum_speed",
        lambda n, beta, exponent_shift=0: (1 - beta**n) / (1 - beta),
        methods,
        {"momentum_flow", "momentum_flow_step"},
    ),
    Planted(
        "Eq. 18 as printed",
        flows,
        "rk4_step",
        rk4_without_h,
        methods,
        {"runge_kutta_in_corridors", "order_of_runge_kutta"},
    ),
    Planted(
        "the last term dropped",
        flows,
        "sgd_modified_field",
        sgd_field(last_term=0),
        methods,
        SGD | {"regularization_by_batches"},
    ),
    Planted("the last term doubled", flows, "sgd_modified_field", sgd_field(last_term=2), methods, SGD),
    Planted("the last term without 1/m", flows, "sgd_modified_field", sgd_field(divide=False), methods, SGD),
    Planted(
        "the sign of ∇‖g‖²",
        flows,
        "sgd_modified_field",
        sgd_field(first_term=-1),
        methods,
        {"modified_flow_of_sgd"},  # in a corridor that term vanishes
    ),
    # Appendix C, and ours
    Planted(
        "A for A²",
        surfaces,
        "quadratic_hg",
        lambda A, b, theta: theta @ A + b,
        quadratics,
        {"hg_of_a_quadratic", "hg_by_eigenvectors", "hg_in_the_corridor"},
    ),
    Planted(
        "a quadratic without bᵀθ",
        surfaces,
        "quadratic",
        lambda A, b, c=0.0: lambda theta: (theta * (theta @ A)).sum(-1) / 2 + c,
        quadratics,
        {"quadratic", "hg_of_a_quadratic", "gradient_by_eigenvectors", "gradient_in_the_corridor"},
    ),
    Planted(
        "half of CLR",
        stepsizes,
        "clr",
        times(0.5, clr),
        measures,
        AT_MIDPOINT | {"secant_of_bowls", "decrease_of_powers"},
    ),
    Planted("the secant over the whole step", formulas, "MIDPOINT", 1.0, measures, AT_MIDPOINT),
    Planted("a corridor index times two", formulas, "corridor_index", times(2, index), measures, TANGENT),
    Planted("the alignment's square", formulas, "gradient_alignment", squared(alignment), measures, ALIGNMENT),
    Planted("E(θ − hg)/E for 1 − it", formulas, "decrease_ratio", one_minus(decrease), measures, DECREASE),
    Planted("twice CLR", stepsizes, "clr", times(2, clr), contraction, ALL_OF_CONTRACTION - BOUNDS),
    Planted("ascent", formulas, "after", lambda t, *more: after(-t, *more), contraction, ALL_OF_CONTRACTION),
    Planted(
        "a change of the gradient times 0.3",
        formulas,
        "relative_change",
        times(0.3, change),
        contraction,
        BOUNDS | {"contraction_along_an_eigenvector"},
    ),
    Planted(
        "the square of the alignment",
        formulas,
        "gradient_alignment",
        squared(alignment),
        contraction,
        ALL_OF_CONTRACTION - BOUNDS - {"contraction_along_an_eigenvector"},
    ),
    Planted("the end for the midpoint", formulas, "MIDPOINT", 1.0, contraction, {"order_of_the_midpoint_rule"}),
]


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.error)
def test_a_planted_error_turns_its_rows_red_and_no_other(planted: Planted, monkeypatch) -> None:
    monkeypatch.setattr(planted.where, planted.name, planted.wrong)
    assert red_rows(planted.section) == planted.red


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
