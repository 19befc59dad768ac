"""Errors in `theory` and `optim`, one at a time, and the rows of the ledger that each must turn red."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch

from corridor_exp.ledger import Check, contraction, corridors, descent, measures, methods, quadratics, steps
from corridor_exp.theory import flows, stepsizes, surfaces, vectors
from corridor_exp.theory import measures as formulas
from tests.ledger.wrong import (
    clr,
    clr_upside_down,
    descent_off_by_one_percent,
    f_star_with_the_wrong_sign,
    one_minus,
    rk4_without_h,
    sgd_field,
    squared,
    times,
)


class Planted(NamedTuple):
    error: str
    place: str  # below corridor_exp
    wrong: Any
    red: set[str]


def rows(names: str) -> set[str]:
    return set(names.split())


momentum, gradient_flow = flows.momentum, flows.gradient_flow
index, alignment, decrease = formulas.corridor_index, formulas.gradient_alignment, formulas.decrease_ratio
after, change = formulas.after, formulas.relative_change
gradient, hessian_gradient = surfaces.gradient, surfaces.hessian_gradient


AFTER_GRADIENT = rows("characterization derivatives_of_a_cone flow_of_a_bowl loss_on_the_line")
ON_CONES = rows("circle_of_a_cone derivatives_of_a_cone height_of_the_concave_cone")
ON_LINES = rows("gradient_on_the_line loss_on_the_line")
SGD = rows("modified_flow_of_sgd sgd_in_a_corridor")

AT_MIDPOINT = rows("secant_of_powers alignment_of_powers alignment_of_bowls")
TANGENT = rows("index_of_powers secant_of_bowls")
ALIGNMENT = rows("alignment_of_powers alignment_of_bowls")
DECREASE = rows("decrease_of_powers decrease_of_bowls alignment_of_bowls")

BOUNDS = rows("bound_of_the_contraction bound_under_a_cap")
ALL_OF_CONTRACTION = {check.name for check in vars(contraction).values() if isinstance(check, Check)}

PLANTED: dict[ModuleType, list[Planted]] = {
    corridors: [
        Planted(
            "the wavy cone for the cone",
            "theory.surfaces.cone",
            lambda *_: surfaces.wavy_cone(),
            ON_CONES
            | ON_LINES
            | rows("hg_on_the_convex_cone hg_on_the_concave_cone flow_in_a_corridor characterization"),
        ),
        Planted(
            "a cone over two of n dimensions",
            "theory.surfaces.cone",
            lambda alpha=1.0, beta=0.0: lambda theta: beta + alpha * theta[..., :2].norm(dim=-1),
            ON_CONES | ON_LINES,
        ),
        Planted(
            "a distance times 1.5",
            "theory.surfaces.signed_distance",
            times(1.5, surfaces.signed_distance),
            rows("height_of_ruled_surfaces distance_to_seams height_of_strips"),
        ),
        Planted(
            "the wavy cone for a ruled surface",
            "theory.surfaces.offset_surface",
            lambda *_: surfaces.wavy_cone(),
            ON_LINES | rows("hg_around_an_ellipse height_of_ruled_surfaces flow_in_a_corridor characterization"),
        ),
        Planted(
            "a jump at a seam",
            "theory.surfaces.GluedSurface.piece",
            lambda self, i, d: i + self.slopes[i] * d,
            rows("continuity_of_strips height_of_strips"),
        ),
        Planted(
            "the sign of g",
            "theory.surfaces.gradient",
            times(-1, gradient),
            AFTER_GRADIENT | rows("velocity_on_the_bowl_corrected"),
        ),
        Planted(
            "the sign of Hg",
            "theory.surfaces.hessian_gradient",
            times(-1, hessian_gradient),
            rows("hg_on_the_bowl rate_of_the_gradient"),
        ),
        Planted(
            "Hg := g",
            "theory.surfaces.hessian_gradient",
            lambda E, theta: gradient(E, theta),
            rows(
                "hg_on_a_linear_piece hg_on_the_convex_cone hg_on_the_concave_cone hg_around_an_ellipse "
                "hg_on_strips hg_on_the_wavy_cone rate_of_the_gradient characterization"
            ),
        ),
        Planted(
            "‖g‖ for ‖g‖²",
            "theory.surfaces.loss_on_the_line",
            lambda loss, norm_sq, t: loss - t * norm_sq.sqrt(),
            rows("loss_on_the_line"),
        ),
        Planted(
            "a flow of half the time",
            "theory.flows.gradient_flow",
            lambda g, theta, duration, **options: gradient_flow(g, theta, duration / 2, **options),
            rows("flow_of_a_bowl flow_in_a_corridor"),
        ),
    ],
    descent: [
        Planted(
            "h off by 1 %",
            "theory.flows.gradient_descent",
            descent_off_by_one_percent,
            rows("descent_in_corridors drift_of_descent drift_of_stochastic_descent drift_by_batch_size"),
        ),
        Planted(
            "the sign of the drift",
            "theory.flows.descent_drift",
            times(-1, flows.descent_drift),
            rows("drift_of_descent"),
        ),
        Planted(
            "½ too much in the drift",
            "theory.flows.descent_drift",
            times(0.5, flows.descent_drift),
            rows("drift_of_descent"),
        ),
    ],
    steps: [
        Planted(
            "a factor 2 in CLR",
            "theory.stepsizes.clr",
            times(2, clr),
            rows(
                "corridor_step corridor_optimizer polyak hazan_kakade scaled_corridor_step stochastic_polyak "
                "bounded_step decreasing_polyak"
            ),
        ),
        Planted(
            "CLR without its scale",
            "theory.stepsizes.clr",
            lambda loss, grad_norm_sq, scale=1.0: clr(loss, grad_norm_sq),
            rows("hazan_kakade scaled_corridor_step stochastic_polyak"),
        ),
        Planted(
            "CLR divided by its scale",
            "theory.stepsizes.clr",
            clr_upside_down,
            rows("hazan_kakade scaled_corridor_step stochastic_polyak"),
        ),
        Planted(
            "a CLR that may be negative",
            "theory.stepsizes.clr",
            lambda loss, grad_norm_sq, scale=1.0: scale * loss / grad_norm_sq,
            rows("polyak_below_the_bound"),
        ),
        Planted(
            "the sign of f*",
            "optim.Descent.__init__",
            f_star_with_the_wrong_sign,
            rows("polyak polyak_below_the_bound stochastic_polyak"),
        ),
        Planted(
            "momentum CLR's sign",
            "theory.stepsizes.clr_momentum",
            lambda loss, grad_norm_sq, slope: (loss - slope).clamp(min=0) / grad_norm_sq,
            rows("corridor_step_with_momentum"),
        ),
        Planted(
            "DecSPS without /c",
            "theory.stepsizes.decsps",
            lambda loss, grad_norm_sq, bound, c: clr(loss, grad_norm_sq).minimum(bound),
            rows("decreasing_polyak"),
        ),
        Planted("DAL's factor", "theory.stepsizes.dal", times(0.5, stepsizes.dal), rows("drift_adjusted")),
        Planted(
            "a norm without its root",
            "theory.vectors.norm",
            lambda u: vectors.inner(u, u, torch.float64),
            rows("drift_adjusted"),
        ),
    ],
    methods: [
        Planted(
            "momentum with dampening",
            "theory.flows.momentum",
            lambda g, theta, h, beta, *more: momentum(g, theta, h * (1 - beta), beta, *more),
            rows("momentum momentum_velocity momentum_position"),
        ),
        # Eq. 12 as printed is what goes with this Eq. 7, so that it holds.
        Planted(
            "β^{t−1} for β^t",
            "theory.flows.momentum_velocity",
            lambda g0, h, beta, t: -h * (1 - beta ** (t - 1)) / (1 - beta) * g0,
            rows("momentum_velocity momentum_position momentum_flow momentum_flow_as_printed"),
        ),
        Planted(
            "Eq. 12 as printed",
            "theory.flows.momentum_speed",
            lambda n, beta, exponent_shift=0: (1 - beta**n) / (1 - beta),
            rows("momentum_flow momentum_flow_step"),
        ),
        Planted(
            "Eq. 18 as printed",
            "theory.flows.rk4_step",
            rk4_without_h,
            rows("runge_kutta_in_corridors order_of_runge_kutta"),
        ),
        Planted(
            "the last term dropped",
            "theory.flows.sgd_modified_field",
            sgd_field(last_term=0),
            SGD | rows("regularization_by_batches"),
        ),
        Planted("the last term doubled", "theory.flows.sgd_modified_field", sgd_field(last_term=2), SGD),
        Planted("the last term without 1/m", "theory.flows.sgd_modified_field", sgd_field(divide=False), SGD),
        # In a corridor that term vanishes.
        Planted(
            "the sign of ∇‖g‖²",
            "theory.flows.sgd_modified_field",
            sgd_field(first_term=-1),
            rows("modified_flow_of_sgd"),
        ),
    ],
    quadratics: [
        Planted(
            "A for A²",
            "theory.surfaces.quadratic_hg",
            lambda A, b, theta: theta @ A + b,
            rows("hg_of_a_quadratic hg_by_eigenvectors hg_in_the_corridor"),
        ),
        Planted(
            "a quadratic without bᵀθ",
            "theory.surfaces.quadratic",
            lambda A, b, c=0.0: lambda theta: (theta * (theta @ A)).sum(-1) / 2 + c,
            rows("quadratic hg_of_a_quadratic gradient_by_eigenvectors gradient_in_the_corridor"),
        ),
    ],
    measures: [
        Planted(
            "half of CLR",
            "theory.stepsizes.clr",
            times(0.5, clr),
            AT_MIDPOINT | rows("secant_of_bowls decrease_of_powers"),
        ),
        Planted("the secant over the whole step", "theory.measures.MIDPOINT", 1.0, AT_MIDPOINT),
        Planted("a corridor index times two", "theory.measures.corridor_index", times(2, index), TANGENT),
        Planted("the alignment's square", "theory.measures.gradient_alignment", squared(alignment), ALIGNMENT),
        Planted("E(θ − hg)/E for 1 − it", "theory.measures.decrease_ratio", one_minus(decrease), DECREASE),
    ],
    contraction: [
        Planted("twice CLR", "theory.stepsizes.clr", times(2, clr), ALL_OF_CONTRACTION - BOUNDS),
        Planted("ascent", "theory.measures.after", lambda t, *more: after(-t, *more), ALL_OF_CONTRACTION),
        Planted(
            "a change of the gradient times 0.3",
            "theory.measures.relative_change",
            times(0.3, change),
            BOUNDS | rows("contraction_along_an_eigenvector"),
        ),
        Planted(
            "the square of the alignment",
            "theory.measures.gradient_alignment",
            squared(alignment),
            ALL_OF_CONTRACTION - BOUNDS - rows("contraction_along_an_eigenvector"),
        ),
        Planted("the end for the midpoint", "theory.measures.MIDPOINT", 1.0, rows("order_of_the_midpoint_rule")),
    ],
}
