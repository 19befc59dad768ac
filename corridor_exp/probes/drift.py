"""The distance between several processes that start from the same θ on the same loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from corridor_exp.objective import Batch, Objective
from corridor_exp.probes.base import ImageChoice, ProbeData, Quantities
from corridor_exp.runs import records
from corridor_exp.theory import flows, stepsizes
from corridor_exp.theory.vectors import flat, like

if TYPE_CHECKING:
    from corridor_exp.datasets.base import Dataset


@dataclass
class Processes:
    """The points of each process, a tensor of shape (steps + 1, n) that begins with the start."""

    descent: Tensor
    clr: Tensor
    flow: Tensor
    flow_of_clr: Tensor
    straightness: Tensor  # cosines between successive gradients on the flow, shape (steps,)


class Drift:
    """Gradient descent at a fixed step h, CLR, and the gradient flow for the same time, on the same images.

    `probe/drift_descent` is ‖θ_descent − θ_flow‖ after `steps` steps of h, divided by the length of the descent path.
    `probe/drift_clr` is the same for CLR, where the flow runs for the sum of CLR's steps. `probe/flow_straightness` is
    the smallest cosine between gradients on the flow that are h apart. In a corridor these are 0, 0 and 1.

    CLR takes the part `scale` of its steps, because a corridor would end within the whole of one. If the argument `h`
    is None, h is the first of these parts. All three are null if the flow needs more than `max_evaluations` gradients
    for a step.
    """

    def __init__(
        self,
        images: ImageChoice = "fixed",
        steps: int = 5,
        scale: float = 0.1,
        h: float | None = None,
        rtol: float = 1e-4,
        max_evaluations: int = 500,
        *,
        dataset: Dataset | None = None,
        batch_size: int = 0,
    ) -> None:
        self.data = ProbeData(images, dataset, batch_size)
        self.steps, self.scale, self.h, self.rtol, self.max_evaluations = steps, scale, h, rtol, max_evaluations

    def look(self, objective: Objective, batch: Batch) -> Quantities:
        try:
            processes = self.simulate(objective, batch)
        except ArithmeticError:
            nan = torch.tensor(torch.nan)
            return {records.DRIFT_DESCENT: nan, records.DRIFT_CLR: nan, records.FLOW_STRAIGHTNESS: nan}
        return {
            records.DRIFT_DESCENT: _relative_distance(processes.descent, processes.flow),
            records.DRIFT_CLR: _relative_distance(processes.clr, processes.flow_of_clr),
            records.FLOW_STRAIGHTNESS: processes.straightness.min(),
        }

    def at_step(self, h: Tensor | float | None) -> Quantities:
        return {}

    def simulate(self, objective: Objective, batch: Batch) -> Processes:
        """The points of all processes. Raises `ArithmeticError` if the flow is too stiff."""
        data, start = self.data.of(batch), flat(objective.theta).detach()

        def loss_and_gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
            E, g = objective.gradient(data, like(theta, objective.theta))
            return E, flat(g)

        def g(theta: Tensor) -> Tensor:
            return loss_and_gradient(theta)[1]

        def flow(durations: list[float]) -> Tensor:
            points = [start]
            for duration in durations:
                point = flows.gradient_flow(
                    g, points[-1], duration, rtol=self.rtol, atol=1e-8, max_evaluations=self.max_evaluations
                )
                points.append(point)
            return torch.stack(points)

        point, clr, step_sizes = start, [start], []
        for _ in range(self.steps):
            E, gradient = loss_and_gradient(point)
            step_sizes.append(self.scale * stepsizes.clr(E, gradient.square().sum()).item())
            point = point - step_sizes[-1] * gradient
            clr.append(point)
        h = step_sizes[0] if self.h is None else self.h
        descent = [start, *flows.gradient_descent(g, start, h, self.steps)]
        flow_of_descent = flow([h] * self.steps)
        gradients = torch.stack([g(theta) for theta in flow_of_descent])
        directions = gradients / gradients.norm(dim=1, keepdim=True)
        return Processes(
            descent=torch.stack(descent),
            clr=torch.stack(clr),
            flow=flow_of_descent,
            flow_of_clr=flow(step_sizes),
            straightness=(directions[1:] * directions[:-1]).sum(1),
        )


def _relative_distance(process: Tensor, flow: Tensor) -> Tensor:
    """The distance at the end, relative to the length of the process's path."""
    return (process[-1] - flow[-1]).norm() / process.diff(dim=0).norm(dim=1).sum()
