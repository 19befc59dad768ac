"""The paper's statements, one row each: what was computed, the error found, and whether it holds.

Nothing here asserts a constant: every row compares two ways to the same thing, one of them a function of `theory`, so
an error planted there turns its row red (the tests plant them). Rows "as printed" are the paper's slips, which must
not hold. All in float64.
"""

from __future__ import annotations

import cmath
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from corridor_exp.theory import flows, stepsizes, surfaces
from corridor_exp.theory.surfaces import Loss


@dataclass(frozen=True)
class Row:
    """`holds` is the verdict on the claim; a `misprint` is a claim as printed, which is expected not to hold."""

    statement: str
    claim: str
    error: float
    holds: bool
    misprint: bool = False


def ledger() -> list[Row]:
    """All rows, in the paper's order. Seconds on a CPU; the same numbers every time."""
    return [row for check in CHECKS for row in check()]


def small(statement: str, claim: str, error: Tensor | float, tolerance: float, misprint: bool = False) -> Row:
    """A claim that an error vanishes."""
    error = float(error)
    return Row(statement, f"{claim} (≤ {tolerance:g})", error, error <= tolerance, misprint)


# ---------------------------------------------------------------- points and fields

THETA = torch.tensor([0.9, 0.5], dtype=torch.float64)


def points(count: int, low: float, high: float, seed: int = 0) -> Tensor:
    """Points of the plane between two radii."""
    generator = torch.Generator().manual_seed(seed)
    radius = low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)
    angle = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)


def field(E: Loss) -> Callable[[Tensor], Tensor]:
    return lambda theta: surfaces.gradient(E, theta)


def largest(t: Tensor) -> float:
    return t.abs().max().item()


def quartic(theta: Tensor) -> Tensor:
    """A smooth loss that is no corridor anywhere: Σ θ⁴/4 + θ₁θ₂ + ‖θ‖²."""
    return theta.pow(4).sum(-1) / 4 + theta[..., 0] * theta[..., 1] + theta.square().sum(-1)


def flow(E: Loss, theta: Tensor, times: list[float]) -> Tensor:
    """Points of the gradient flow at rising times, by scipy's DOP853: independent of `theory.flows`."""

    def minus_g(_: float, point: list[float]) -> list[float]:
        values: list[float] = (-surfaces.gradient(E, torch.as_tensor(point, dtype=torch.float64))).tolist()
        return values

    solution = solve_ivp(minus_g, (0, times[-1]), theta.numpy(), method="DOP853", t_eval=times, rtol=1e-12, atol=1e-13)
    return torch.as_tensor(solution.y.T)


ELLIPSE = surfaces.ellipse(2.0, 1.5)
STRIPS = surfaces.fig1b()


def corridors() -> dict[str, tuple[Loss, Tensor]]:
    """Corridors, each with points from which a flow of length 0.3 stays inside."""
    slope = torch.tensor([0.6, -0.8], dtype=torch.float64)
    return {
        "linear piece": (surfaces.linear(slope, 3.0), points(20, 0.0, 1.0)),
        "convex cone": (surfaces.cone(1.0), points(20, 0.5, 2.0)),
        "concave cone": (surfaces.cone(-1.0, 3.0), points(20, 0.5, 2.0)),
        "distance to an ellipse": (surfaces.offset_surface(ELLIPSE, -1.0), points(20, 2.5, 4.0)),
        "strip beside a wave": (surfaces.offset_surface(STRIPS.curve), points(20, 0.0, 0.3)),
    }


def others() -> dict[str, tuple[Loss, Tensor]]:
    A = torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=torch.float64)
    return {
        "quadratic": (surfaces.quadratic(A, torch.zeros(2, dtype=torch.float64)), points(20, 0.5, 2.0)),
        "saddle": (surfaces.saddle, points(20, 0.5, 2.0)),
        "wavy cone": (surfaces.wavy_cone(), points(20, 0.5, 2.0)),
        "quartic": (quartic, points(20, 0.5, 1.0)),
    }


# ------------------------------------------------------------------- 2: corridors


def examples_2_2_to_2_6() -> Iterator[Row]:
    names = {
        "linear piece": "Example 2.2",
        "convex cone": "Example 2.3",
        "concave cone": "Example 2.4",
        "distance to an ellipse": "Example 2.5",
    }
    zoo = corridors()
    for name, statement in names.items():
        E, theta = zoo[name]
        yield small(statement, f"Hg = 0 on the {name}", largest(surfaces.hessian_gradient(E, theta)), 1e-10)
    E, theta = zoo["linear piece"]
    v = flow(E, theta[0], [1.0])[0] - theta[0]
    g = surfaces.gradient(E, theta[0])
    yield small("Example 2.2", "as printed: ∇E equals the flow's velocity v", largest(g - v), 1e-10, misprint=True)
    yield small("Example 2.2", "corrected: ∇E = −v", largest(g + v), 1e-10)
    hg = surfaces.hessian_gradient(surfaces.saddle, points(20, 0.5, 2.0)).norm(dim=-1).min().item()
    yield Row("Example 2.5", "the converse fails: xy is ruled and ‖Hg‖ stays above 0.4", hg, hg > 0.4)
    theta = points(400, 0.0, 0.7)
    inside = theta[STRIPS.distance_to_seam(theta) > 1e-3]
    yield small("Example 2.6", "Hg = 0 off the seams", largest(surfaces.hessian_gradient(STRIPS, inside)), 1e-10)
    seams = torch.tensor(STRIPS.seams, dtype=torch.float64)
    jumps = [largest(STRIPS.piece(i, s) - STRIPS.piece(i + 1, s)) for i, s in enumerate(seams)]
    yield small("Example 2.6", "E is continuous across the seams", max(jumps), 1e-12)


def example_2_7_and_appendix_c() -> Iterator[Row]:
    generator = torch.Generator().manual_seed(1)
    B = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    A, b = B @ B.T, torch.randn(5, generator=generator, dtype=torch.float64)  # rank 3
    E = surfaces.quadratic(A, b)
    theta = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    error = largest(surfaces.hessian_gradient(E, theta) - surfaces.quadratic_hg(A, b, theta))
    yield small("Eq. 21", "Hg = A(Aθ + b) on a quadratic", error, 1e-10)
    # {Hg = 0} is where a linear map vanishes; read the map off the function itself.
    origin = surfaces.quadratic_hg(A, b, torch.zeros(5, dtype=torch.float64))
    M = torch.stack([surfaces.quadratic_hg(A, b, e) - origin for e in torch.eye(5, dtype=torch.float64)])
    rank = torch.linalg.matrix_rank(M, rtol=1e-9).item()
    yield small("Appendix C", "{Hg = 0} has codimension rank A", abs(rank - 3), 0)
    foot = -torch.linalg.pinv(A) @ b
    _, _, rows = torch.linalg.svd(A)
    plane = foot + torch.randn(20, 2, generator=generator, dtype=torch.float64) @ rows[3:]
    slope = surfaces.gradient(E, plane)
    error = max(largest(surfaces.hessian_gradient(E, plane)), largest(slope - slope[0]))
    yield small("Appendix C", "on {Hg = 0} the gradient is constant and E affine", error, 1e-10)


def lemma_2_8() -> Iterator[Row]:
    """d/dt g by central differences along the flow approaches −Hg with the square of the interval."""
    for_intervals = []
    for d in (0.02, 0.01):
        path = flow(quartic, THETA, [0.1 - d, 0.1, 0.1 + d])
        rate = (surfaces.gradient(quartic, path[2]) - surfaces.gradient(quartic, path[0])) / (2 * d)
        for_intervals.append((rate + surfaces.hessian_gradient(quartic, path[1])).norm().item())
    order = math.log2(for_intervals[0] / for_intervals[1])
    yield Row("Lemma 2.8", "dg/dt → −Hg with order 2", abs(order - 2), abs(order - 2) < 0.1)


def lemma_2_9_and_proposition_2_10() -> Iterator[Row]:
    change, excess = 0.0, 0.0
    for E, theta in corridors().values():
        g, loss = surfaces.gradient(E, theta), E(theta)
        for t in (0.05, 0.1, 0.3):
            on_line = theta - t * g
            change = max(change, largest(surfaces.gradient(E, on_line) - g))
            predicted = surfaces.loss_on_the_line(loss, g.square().sum(-1), t)
            excess = max(excess, largest(E(on_line) - predicted))
    yield small("Lemma 2.9", "g is constant on the line of steepest descent", change, 1e-12)
    E = surfaces.cone(3.0)  # ‖g‖ = 3 tells ‖g‖² from ‖g‖
    g = surfaces.gradient(E, THETA)
    predicted = surfaces.loss_on_the_line(E(THETA), g.square().sum(), 0.1)
    excess = max(excess, abs((E(THETA - 0.1 * g) - predicted).item()))
    yield small("Proposition 2.10", "E(θ − tg) = E − t‖g‖²", excess, 1e-12)


def theorem_2_11() -> Iterator[Row]:
    """Over a zoo of both classes: Hg = 0, straight flow at constant speed, and constant ‖g‖ say the same."""
    disagreements, seen = 0, []
    for E, theta in (*corridors().values(), *others().values()):
        hg = largest(surfaces.hessian_gradient(E, theta))
        bend = 0.0
        for start in theta[:4]:
            g = surfaces.gradient(E, start)
            bend = max(bend, largest(flow(E, start, [0.3])[0] - (start - 0.3 * g)))
        norms = surfaces.gradient(E, theta).norm(dim=-1)
        verdicts = {hg < 1e-8, bend < 1e-8, (norms.max() - norms.min()).item() < 1e-8}
        disagreements += len(verdicts) > 1
        seen.append(hg < 1e-8)
    claim = f"Hg = 0 ⇔ straight flow ⇔ ‖g‖ constant, on {len(seen)} surfaces of which {sum(seen)} are corridors"
    yield small("Theorem 2.11", claim, disagreements, 0)


# ----------------------------------------------------------- 3: descent and the flow


def theorem_3_1_forward() -> Iterator[Row]:
    error = 0.0
    for E, start in ((surfaces.cone(1.0), 4 * THETA), (surfaces.offset_surface(ELLIPSE, -1.0), 4 * THETA)):
        for h in (0.002, 0.01, 0.03):
            descent = list(flows.gradient_descent(field(E), start, h, 50))
            path = flow(E, start, [n * h for n in range(1, 51)])
            error = max(error, largest(torch.stack(descent) - path))
    yield small("Theorem 3.1 ⇒", "50 steps of gradient descent lie on the flow", error, 1e-10)


def theorem_3_1_backward() -> Iterator[Row]:
    hg = surfaces.hessian_gradient(quartic, THETA)
    errors, printed = [], 0.0
    for h in (2e-2, 1e-2):
        (descended,) = flows.gradient_descent(field(quartic), THETA, h, 1)
        drift = flow(quartic, THETA, [h])[0] - descended
        errors.append((2 / h**2 * (drift - flows.descent_drift(hg, h))).norm().item())
        velocity = -surfaces.gradient(quartic, THETA)
        printed = (flow(quartic, THETA, [h])[0] - (THETA - h * velocity)).norm().item() / h**2
    order = math.log2(errors[0] / errors[1])
    claim = "for all h: 2(θ_GF(h) − θ_GD(h))/h² → Hg with order 1"
    yield Row("Theorem 3.1 ⇐", claim, abs(order - 1), abs(order - 1) < 0.1)
    yield small("Theorem 3.1 ⇐", "as printed: θ(h) = θ − hθ′ + O(h²)", printed, 20.0, misprint=True)
    corrected = (flow(quartic, THETA, [1e-2])[0] - (THETA + 1e-2 * velocity)).norm().item() / 1e-4
    yield small("Theorem 3.1 ⇐", "corrected: θ(h) = θ + hθ′ + O(h²)", corrected, 20.0)


def theorem_3_1_one_step_size() -> Iterator[Row]:
    """g(θ(t)) = 1 + 0.02 Re e^{zt} with e^z = 1 + z: over any unit of time its mean is its value at the start."""
    z = 2.08884 + 7.46149j
    for _ in range(5):
        z -= (cmath.exp(z) - 1 - z) / (cmath.exp(z) - 1)

    def g(t: float) -> float:
        return 1 + 0.02 * cmath.exp(z * t).real

    def travelled(t: float) -> float:
        return t + 0.02 * ((cmath.exp(z * t) - 1) / z).real

    times = [i / 100 for i in range(100)]
    error = max(abs(travelled(t + 1) - travelled(t) - g(t)) for t in times)
    hg = max(abs(0.02 * (z * cmath.exp(z * t)).real) for t in times)
    claim = f"for one h the converse fails: descent at h = 1 is on the flow (≤ 1e-14) and |Hg| reaches {hg:.2f}"
    yield Row("Theorem 3.1 ⇐", claim, error, error <= 1e-14 and hg > 0.5)


# ---------------------------------------------------------------------- 4: the step


def equations_2_and_3() -> Iterator[Row]:
    error = 0.0
    for alpha in (0.3, 1.0, 5.0):
        E = surfaces.cone(alpha)
        g, loss = surfaces.gradient(E, THETA), E(THETA)
        error = max(error, E(THETA - stepsizes.clr(loss, g.square().sum()) * g).item())
    outside = 3 * THETA
    E = surfaces.offset_surface(ELLIPSE, -1.0)
    g = surfaces.gradient(E, outside)
    error = max(error, abs(E(outside - stepsizes.clr(E(outside), g.square().sum()) * g).item()))
    yield small("Eq. 2–3", "E(θ − hg) = 0 for h = E/‖g‖², in corridors that reach 0", error, 1e-12)


def section_4_1() -> Iterator[Row]:
    """θ⁴ has a finite Polyak step everywhere and no PL constant: its step has no bound."""
    theta = torch.logspace(-4, 0, 5, dtype=torch.float64)
    h = stepsizes.clr(theta**4, (4 * theta**3) ** 2)
    ratio = (h.max() / h.min()).item()
    claim = "as printed: a finite Polyak step is the PL condition (θ⁴: step bounded within a factor of 10)"
    yield Row("§4.1", claim, ratio, bool(h.isfinite().all()) and ratio < 10, misprint=True)
    A = torch.diag(torch.tensor([0.5, 2.0], dtype=torch.float64))
    E = surfaces.quadratic(A, torch.zeros(2, dtype=torch.float64))
    theta = points(200, 1e-4, 10.0)
    excess = (stepsizes.clr(E(theta), surfaces.gradient(E, theta).square().sum(-1)) - 1 / (2 * 0.5)).clamp(min=0)
    yield small("§4.1", "corrected: under PL with constant μ the step is at most 1/(2μ)", excess.max(), 1e-12)


# ----------------------------------------------------------------- A: other methods

H, BETA, STEPS = 0.02, 0.9, 12


def lemma_a_1() -> Iterator[Row]:
    E = surfaces.cone(1.0)
    start = 6 * THETA
    g0 = surfaces.gradient(E, start)
    path = [start, *flows.momentum(field(E), start, H, BETA, STEPS)]
    velocity = max(
        largest(after - before - flows.momentum_velocity(g0, H, BETA, t))
        for t, (before, after) in enumerate(pairwise(path), start=1)
    )
    position = max(largest(p - flows.momentum_position(start, g0, H, BETA, t)) for t, p in enumerate(path))
    yield small("Eq. 7", "momentum's velocity in a corridor", velocity, 1e-12)
    yield small("Eq. 8", "momentum's position in a corridor", position, 1e-12)
    sums = [flows.momentum_position(path[t - 1], g0, H, BETA, t) for t in range(1, STEPS + 1)]
    printed = max(largest(p - q) for p, q in zip(path[1:], sums, strict=True))
    yield small("Eq. 11", "as printed: θ_t = θ_{t−1} + Σ v_i", printed, 1e-12, misprint=True)


def remark_a_2() -> Iterator[Row]:
    E = surfaces.cone(1.0)
    start = 6 * THETA
    g = surfaces.gradient(E, start)
    across = torch.stack([-g[1], g[0]])

    def leaves(v: Tensor) -> float:
        path = torch.stack(list(flows.momentum(field(E), start, H, BETA, STEPS, v)))
        return largest((path - start) @ across)

    yield small("Remark A.2", "a velocity along g keeps momentum on the line", leaves(-0.3 * g), 1e-12)
    away = leaves(0.3 * across)
    yield Row("Remark A.2", "an oblique velocity leaves it (by more than 0.1)", away, away > 0.1)


def remark_a_3() -> Iterator[Row]:
    """Follow the flow whose speed on [hn, h(n + 1)] is c_n, and compare with Eq. 8."""
    E = surfaces.cone(1.0)
    start = 6 * THETA
    g0 = surfaces.gradient(E, start)
    for label, options in (("as printed: c_n has β^n", {"exponent_shift": 0}), ("corrected: c_n has β^{n+1}", {})):
        theta, error = start, 0.0
        for n in range(STEPS):
            if (time := H * flows.momentum_speed(n, BETA, **options)) > 0:
                theta = flow(E, theta, [time])[0]
            error = max(error, largest(theta - flows.momentum_position(start, g0, H, BETA, n + 1)))
        yield small("Eq. 12", f"{label}; the flow meets Eq. 8", error, 1e-10, misprint=bool(options))


def appendix_a_2() -> Iterator[Row]:
    error, printed = 0.0, 0.0
    for E, start in ((surfaces.cone(1.0), 6 * THETA), (surfaces.offset_surface(ELLIPSE, -1.0), 4 * THETA)):
        g = surfaces.gradient(E, start)
        error = max(error, largest(flows.rk4_step(field(E), start, 0.1) - (start - 0.1 * g)))
        printed = max(printed, largest(start - g - flow(E, start, [0.1])[0]))
    yield small("Eq. 14–18", "a step of Runge–Kutta 4 follows the flow in a corridor", error, 1e-12)
    claim = "as printed, without h: the step is θ − g and follows the flow for h = 0.1"
    yield small("Eq. 18", claim, printed, 1e-12, misprint=True)
    errors = [
        (flows.rk4_step(field(quartic), THETA, h) - flow(quartic, THETA, [h])[0]).norm().item() for h in (0.1, 0.05)
    ]
    order = math.log2(errors[0] / errors[1])
    yield Row("Eq. 14–18", "elsewhere its error in one step is of order 5", abs(order - 5), abs(order - 5) < 0.4)


def appendix_a_3() -> Iterator[Row]:
    """The mean over all m! shufflings of an epoch of SGD, on random cubic batch losses, against Eq. 20's flow."""
    slopes = []
    for m in range(2, 7):
        losses = _cubic_losses(m)
        gradients = [field(E) for E in losses]
        start = torch.tensor([0.3, -0.2], dtype=torch.float64)
        errors = []
        for h in (0.02, 0.01):
            ends = [_epoch(gradients, order, start, h) for order in itertools.permutations(range(m))]
            modified = flows.sgd_modified_field(gradients_with_graph(losses), h)
            end = flows.gradient_flow(modified, start, m * h, rtol=1e-11, atol=1e-13)
            errors.append((torch.stack(ends).mean(0) - end).norm().item())
        slopes.append(math.log2(errors[0] / errors[1]))
    claim = "E_σ[θ_m] = θ(mh) + O(h³) for m = 2…6: slope of the error in h above 2.8 (its m³ cannot be told at m ≤ 6)"
    yield Row("Eq. 19–20", claim, 3 - min(slopes), min(slopes) > 2.8)


def gradients_with_graph(losses: list[Loss]) -> list[Callable[[Tensor], Tensor]]:
    return [lambda theta, E=E: surfaces.gradient(E, theta, create_graph=True) for E in losses]  # type: ignore[misc]


def _cubic_losses(m: int) -> list[Loss]:
    generator = torch.Generator().manual_seed(m)

    def cubic() -> Loss:
        a, b = (torch.randn(2, generator=generator, dtype=torch.float64) for _ in range(2))
        A = torch.randn(2, 2, generator=generator, dtype=torch.float64)
        return lambda t: (t @ a) ** 3 / 3 + (t * (t @ (A + A.T))).sum(-1) / 2 + t @ b

    return [cubic() for _ in range(m)]


def _epoch(gradients: list[Callable[[Tensor], Tensor]], order: tuple[int, ...], theta: Tensor, h: float) -> Tensor:
    for i in order:
        theta = theta - h * gradients[i](theta)
    return theta


CHECKS: list[Callable[[], Iterator[Row]]] = [
    examples_2_2_to_2_6,
    example_2_7_and_appendix_c,
    lemma_2_8,
    lemma_2_9_and_proposition_2_10,
    theorem_2_11,
    theorem_3_1_forward,
    theorem_3_1_backward,
    theorem_3_1_one_step_size,
    equations_2_and_3,
    section_4_1,
    lemma_a_1,
    remark_a_2,
    remark_a_3,
    appendix_a_2,
    appendix_a_3,
]
