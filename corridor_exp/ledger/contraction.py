"""Ours, not the paper's: what one CLR step makes of the loss of its own batch, and what bounds it.

With h = E/‖g‖² and g_t = g(θ − thg), the contraction is E(θ − hg)/E = ∫₀¹⟨g − g_t, g⟩/‖g‖² dt ≤ sup_t ‖g − g_t‖/‖g‖,
because E − h‖g‖² = 0 (Eq. 2). It needs no convexity, and holds on ReLU networks. The contraction is 1 − the decrease
ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from scipy.integrate import fixed_quad
from torch import Tensor

from corridor_exp.ledger.examples import THETA, bowl, order, points, quartic, vector
from corridor_exp.ledger.rows import claim
from corridor_exp.theory import measures, stepsizes, surfaces
from corridor_exp.theory.surfaces import Loss

INPUTS, UNITS, OUTPUTS, IMAGES = 3, 8, 2, 5
WEIGHTS = INPUTS * UNITS  # of the first layer, the first ones of θ
GRID = np.linspace(0, 1, 33)
CAPPED = 0.3  # the share of CLR's step that a cap leaves
NETWORKS = 60


class Network:
    """The mean squared error of a network with one hidden layer, on random data; 48 parameters, themselves random."""

    def __init__(self, activation: Callable[[Tensor], Tensor], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        shapes = (IMAGES, INPUTS), (IMAGES, OUTPUTS), (WEIGHTS + UNITS + UNITS * OUTPUTS,)
        self.x, self.y, self.theta = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes)
        self.activation = activation

    def inner(self, theta: Tensor) -> Tensor:
        """What the activation is applied to: linear in θ."""
        return self.x @ theta[:WEIGHTS].view(INPUTS, UNITS) + theta[WEIGHTS : WEIGHTS + UNITS]

    def __call__(self, theta: Tensor) -> Tensor:
        outputs = self.activation(self.inner(theta)) @ theta[WEIGHTS + UNITS :].view(UNITS, OUTPUTS)
        return (outputs - self.y).square().mean()


class Step:
    """CLR's step from θ, or a share of it, and what is measured on it."""

    def __init__(self, E: Loss, theta: Tensor, scale: float = 1.0) -> None:
        self.E, self.theta, self.g = E, theta, surfaces.gradient(E, theta)
        self.h = stepsizes.clr(E(theta), self.g.square().sum(), scale)

    def point(self, t: float) -> Tensor:
        return measures.after(t, [self.theta], [self.g], self.h)[0]

    def decrease_ratio(self) -> Tensor:
        return measures.decrease_ratio(self.E(self.theta), self.E(self.point(1.0)))

    def alignment(self, t: float) -> Tensor:
        """⟨g_t, g⟩/‖g‖²."""
        return measures.gradient_alignment([self.g], [surfaces.gradient(self.E, self.point(t))])

    def change(self, t: float) -> Tensor:
        """‖g − g_t‖/‖g‖."""
        return measures.relative_change([self.g], [surfaces.gradient(self.E, self.point(t))])

    def largest_change(self) -> Tensor:
        """The largest change on a grid of t: at most the supremum."""
        return torch.stack([self.change(t) for t in GRID]).max()

    def mean_alignment(self, breaks: Sequence[float]) -> float:
        """∫₀¹⟨g_t, g⟩/‖g‖² dt, by Gauss and Legendre's rule on each piece between the breaks."""
        alignment = np.vectorize(lambda t: self.alignment(t).item(), otypes=[float])
        return sum(fixed_quad(alignment, low, high, n=8)[0] for low, high in pairwise(breaks))


def networks(activation: Callable[[Tensor], Tensor]) -> Iterator[Network]:
    return (Network(activation, seed) for seed in range(NETWORKS))


def kinks(network: Network, step: Step) -> list[float]:
    """0, 1, and where a hidden unit changes sign between θ and the end of the step."""
    at_start, at_end = network.inner(network.theta), network.inner(step.point(1.0))
    roots = (at_start / (at_start - at_end)).flatten().tolist()
    return [0.0, *sorted(root for root in roots if 0 < root < 1), 1.0]


def exceeds(low: Tensor, high: Tensor) -> float:
    """By how much the first is above the second; 0 where it is not."""
    return (low - high).clamp(min=0).item()


@claim("Contraction", "E(θ − hg)/E = ∫₀¹⟨g − g(θ − thg), g⟩/‖g‖² dt", at_most=1e-12)
def contraction() -> Tensor:
    """On a quartic, where the rule is exact."""
    step = Step(quartic, THETA)
    return (step.decrease_ratio() - step.mean_alignment([0, 1])).abs()


@claim("Contraction", "the same on smooth networks", at_most=1e-10)
def contraction_of_networks() -> float:
    steps = [Step(network, network.theta) for network in networks(torch.tanh)]
    pieces = np.linspace(0, 1, 9).tolist()
    return max((step.decrease_ratio() - step.mean_alignment(pieces)).abs().item() for step in steps[:10])


@claim("Contraction", "the same on ReLU networks, piece by piece", at_most=1e-10)
def contraction_across_kinks() -> float:
    steps = [(network, Step(network, network.theta)) for network in networks(F.relu)]
    return max((step.decrease_ratio() - step.mean_alignment(kinks(n, step))).abs().item() for n, step in steps[:10])


@claim("Contraction", "a cap that leaves γh: E(θ − γhg)/E = 1 − γ∫₀¹⟨g(θ − tγhg), g⟩/‖g‖² dt", at_most=1e-12)
def contraction_under_a_cap() -> Tensor:
    step = Step(quartic, THETA, CAPPED)
    return (step.decrease_ratio() - CAPPED * step.mean_alignment([0, 1])).abs()


@claim("Contraction", "E(θ − hg)/E ≤ sup ‖g − g(θ − thg)‖/‖g‖ on networks: what exceeds", at_most=1e-12)
def bound_of_the_contraction() -> float:
    steps = [Step(network, network.theta) for f in (torch.tanh, F.relu) for network in networks(f)]
    return max(exceeds(1 - step.decrease_ratio(), step.largest_change()) for step in steps)


@claim("Contraction", "under a cap E(θ − γhg)/E ≤ 1 − γ(1 − sup): what exceeds", at_most=1e-12)
def bound_under_a_cap() -> float:
    steps = [Step(network, network.theta, CAPPED) for network in networks(torch.tanh)]
    return max(exceeds(1 - step.decrease_ratio(), 1 - CAPPED * (1 - step.largest_change())) for step in steps)


@claim("Contraction", "if E is convex, the end point bounds it: ⟨g − g(θ − hg), g⟩/‖g‖²: what exceeds", at_most=1e-12)
def bound_by_the_end_point() -> float:
    x = points(20, 0.5, 2.0)
    shapes = (bowl(1.0, 9.0), bowl(0.1, 3.0), lambda theta: F.softplus(x @ theta).mean())
    steps = [Step(E, theta) for E in shapes for theta in points(20, 0.1, 3.0)]
    return max(exceeds(1 - step.decrease_ratio(), 1 - step.alignment(1.0)) for step in steps)


@claim("Contraction", "½ the secant corridor index at the midpoint, along an eigenvector of a quadratic", at_most=1e-12)
def contraction_along_an_eigenvector() -> Tensor:
    step = Step(bowl(3.0, 7.0), vector(0.0, 1.3))
    index = measures.secant_corridor_index([step.g], [surfaces.gradient(step.E, step.point(measures.MIDPOINT))])
    return (1 - step.decrease_ratio() - index / 2).abs()


@claim("Contraction", "the midpoint's alignment is ∫₀¹⟨g(θ − thg), g⟩/‖g‖² dt up to h²: the order less 2", at_most=0.02)
def order_of_the_midpoint_rule() -> float:
    network = Network(torch.tanh, 0)

    def error(scale: float) -> Tensor:
        step = Step(network, network.theta, scale)
        return step.decrease_ratio() / scale - step.alignment(measures.MIDPOINT)

    return abs(order(error, 0.02) - 2)
