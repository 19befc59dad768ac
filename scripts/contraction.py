"""What CLR's step does to the loss of its batch, and what bounds it: looks along training on digits, in float64.

    python scripts/contraction.py OUT [LOOKS]

Two small networks, tanh and ReLU, are trained by CLR with batches of 100. Every step is a look: LOOKS in all (1,000).
A look compares E(θ − hg)/E with 1 − ∫₀¹⟨g(θ − thg), g⟩/‖g‖² dt, by scipy's quadrature and within the error that it
estimates, and with the largest ‖g − g(θ − thg)‖/‖g‖ on a grid of t. It prints a summary, and writes OUT.png, .pdf and
.csv, a line a look.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import matplotlib as mpl
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy.integrate import IntegrationWarning, quad
from torch import Tensor
from torch.func import functional_call

from corridor_exp import datasets
from corridor_exp.figures import style
from corridor_exp.ledger.contraction import Step
from corridor_exp.models import mlp
from corridor_exp.objective import Batch
from corridor_exp.theory.surfaces import Loss
from corridor_exp.theory.vectors import flat, like

ACTIVATIONS = "tanh", "relu"
INTERVALS = 10  # at most, into which the quadrature cuts a step: 21 gradients each
ROUNDING = 1e-9  # of E(θ − hg)/E in float64, where E is small


@dataclass(frozen=True)
class Look:
    """One step: the loss before it, E(θ − hg)/E, that by quadrature with its error, and the largest change of g."""

    activation: str
    step: int
    loss: float
    contraction: float
    by_quadrature: float
    quadrature_error: float
    largest_change: float

    @property
    def agrees(self) -> bool:
        return abs(self.contraction - self.by_quadrature) <= self.quadrature_error + ROUNDING


def looks(activation: str, count: int) -> Iterator[Look]:
    """The first `count` steps of CLR."""
    dataset = datasets.digits(device=torch.device("cpu"), seed=0)
    torch.manual_seed(0)
    network = mlp(dataset.shape, width=32, activation=activation).double()
    names, theta = zip(*network.named_parameters(), strict=True)
    point = flat(theta).detach()
    for number, batch in enumerate(batches(dataset, count)):
        step = Step(loss_of(network, names, theta, batch), point)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IntegrationWarning)  # a kink of ReLU is never cut finely enough
            mean, error = quad(lambda t, step=step: step.alignment(t).item(), 0, 1, limit=INTERVALS, epsabs=1e-8)
        yield Look(
            activation,
            number,
            step.E(point).item(),
            1 - step.decrease_ratio().item(),
            1 - mean,
            error,
            step.largest_change().item(),
        )
        point = step.point(1.0)


def batches(dataset: datasets.Dataset, count: int) -> Iterator[Batch]:
    """The first `count` of training, over as many epochs as they need."""
    return islice((batch for epoch in itertools.count() for batch in dataset.train_batches(epoch, 100)), count)


def loss_of(network: torch.nn.Module, names: tuple[str, ...], theta: tuple[Tensor, ...], batch: Batch) -> Loss:
    """The loss of a batch as a function of all parameters as one vector."""

    def E(point: Tensor) -> Tensor:
        values = dict(zip(names, like(point, theta), strict=True))
        return F.cross_entropy(functional_call(network, values, (batch.x.double(),)), batch.y)

    return E


def summary(seen: list[Look]) -> str:
    """What stands in docs/measuring.md."""
    lines = [f"{len(seen)} looks: the identity holds within the quadrature's error at {sum(s.agrees for s in seen)}"]
    for activation, some in by_activation(seen):
        errors = [abs(s.contraction - s.by_quadrature) for s in some]
        lines.append(f"{activation}: its sides differ by {statistics.median(errors):.1g} (median), {max(errors):.1g}")
    above = sum(s.contraction > s.largest_change for s in seen)
    lines.append(f"the contraction is above the largest change at {above}")
    for words, some in (("below 1", [s for s in seen if s.largest_change < 1]), ("any", seen)):
        fell = sum(s.contraction < 1 for s in some)
        lines.append(f"largest change {words}: {len(some)} looks, and the loss of the batch falls at {fell}")
    return "\n".join(lines)


def by_activation(seen: list[Look]) -> list[tuple[str, list[Look]]]:
    return [(activation, [s for s in seen if s.activation == activation]) for activation in ACTIVATIONS]


def draw(seen: list[Look]) -> Figure:
    figure = style.new_figure(3.4, panels=1)
    changes = [s.largest_change for s in seen]
    ends = [min(changes) / 1.2, max(changes) * 1.2]
    with mpl.rc_context(style.RC):
        axis = figure.subplots()
        for number, (activation, some) in enumerate(by_activation(seen)):
            xs, ys = zip(*((s.largest_change, s.contraction) for s in some), strict=True)
            axis.plot(xs, ys, ".", markersize=3, color=style.COLOURS[number], label=activation)
        axis.plot(ends, ends, color="0.3", linewidth=0.8, label="bound")
        axis.axvspan(ends[0], 1, color="0.9", zorder=0, label="loss must fall")
        axis.axhline(1, color="0.3", linewidth=0.8, linestyle="--", label="loss unchanged")
        axis.set(xscale="log", yscale="log", xlim=ends)
        axis.set(xlabel="largest change of the gradient, ‖g − g$_t$‖/‖g‖", ylabel="contraction E(θ − hg)/E")
        style.finish(figure, f"{len(seen):,} steps of CLR on digits", [], [])
    return figure


if __name__ == "__main__":
    out, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    found = [look for activation in ACTIVATIONS for look in looks(activation, count // 2)]
    print(summary(found))
    style.save(draw(found), found, out)
