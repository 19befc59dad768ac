"""E(θ), g(θ) and H(θ)v on a batch: the one place where a loss is evaluated.

`backward` and `evaluate` are training's, and run under autocast. `backward` fills `p.grad` and moves batch norm's
running statistics; `evaluate` does neither. The others only look. They run without autocast on copies of the parameters
and buffers, replay the random numbers that training is about to draw, and leave no trace: no parameter, running
statistic, generator or gradient buffer changes, and no attribute of a module. See `looking.py`.

E is the mean over the whole batch. A batch may be cut into micro-batches, weighted by their sizes; with batch norm
the cut changes E, so E, g and Hg all use the same one. Looks also take a `Stream`, such as the training set, with the
memory of one micro-batch. A batch may be cut over ranks, whose shares are added up before any norm is taken.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel

from corridor_exp.errors import RunError
from corridor_exp.objective.batches import Batch, Loss, Stream, length
from corridor_exp.objective.cost import FORWARD, GRADIENT, HESSIAN_PRODUCT
from corridor_exp.objective.derivatives import Vector, grad, product
from corridor_exp.objective.double_backward import own_double_backward
from corridor_exp.objective.looking import Before, borrowed, evaluating, generators, same_draws
from corridor_exp.objective.losses import right_answers
from corridor_exp.objective.ranks import ALONE, Ranks
from corridor_exp.theory.vectors import is_sharded, norm

HALF = (torch.bfloat16, torch.float16)


class Evaluation(NamedTuple):
    """E, the mean loss of a batch, and how many of its images were classified right: 0-dim device tensors.

    `correct` is None if the targets are not classes, or if it was not asked for.
    """

    loss: Tensor
    correct: Tensor | None


class Objective:
    """The mean loss of a network over a batch, as a function of the network's parameters θ.

    Arguments: `model`, which can be trained but not looked at if `fully_shard` has cut it over the ranks; `loss`, the
    mean loss of outputs and targets (a per-batch mean in at least float32); `l2`, which adds ½·l2·‖θ‖² to it, so that E
    and g agree, as under weight decay they do not; `micro_batch`, the most images held at once (None: the whole batch);
    `precision`, autocast's type in training (None: off); `forward`, what training calls instead of the model, such as
    its compiled form; `ranks`, between which a batch is cut.

    `passes` is the cost of all evaluations so far but those in evaluation mode, in forward passes: see `cost.py`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss = F.cross_entropy,
        *,
        l2: float = 0.0,
        micro_batch: int | None = None,
        precision: torch.dtype | None = None,
        forward: Callable[[Tensor], Tensor] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.loss_fn, self.l2 = model, loss, l2
        self.micro_batch, self.precision = micro_batch, precision
        names, params = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
        self.names: tuple[str, ...] = names
        self.theta: Vector = params
        self.device = self.theta[0].device
        self.ranks, self.passes = ranks, 0
        self.past: Before | None = None
        self.known: tuple[Batch, Tensor, Vector] | None = None  # a batch with E and g at θ
        self.forward: Callable[[Tensor], Tensor] = model if forward is None else forward
        self.is_sharded = is_sharded(self.theta[0])
        if ranks.size > 1 and not self.is_sharded:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # the argument's new name is not in every torch yet
                # Buffers take no part in training: each rank keeps its own until an evaluation.
                self.forward = DistributedDataParallel(self.forward, broadcast_buffers=False)

    # ------------------------------------------------------------------ training

    def backward(self, batch: Batch, scaler: GradScaler | None = None, count: bool = True) -> Evaluation:
        """E, and its gradient in `p.grad` (times the scaler's scale, if there is one). No host sync.

        Right answers are counted only if `count` is set.
        """
        self.passes += GRADIENT
        for p in self.theta:
            p.grad = None

        def differentiate(E: Tensor) -> None:
            E = scaler.scale(E) if scaler else E
            if self.ranks.size > 1:
                E = E * self.ranks.size  # by which DistributedDataParallel and FSDP divide
            E.backward()

        return self._accumulate(batch, self.forward, differentiate, count)

    def evaluate(self, batch: Batch) -> Evaluation:
        """E in evaluation mode, where batch norm uses its running statistics."""
        with torch.no_grad(), evaluating(self.model):
            return self._accumulate(batch, self.model, lambda E: None)

    def _accumulate(
        self, batch: Batch, forward: Callable[[Tensor], Tensor], each: Callable[[Tensor], None], count: bool = True
    ) -> Evaluation:
        losses, right = [], []
        count = count and not batch.y.is_floating_point() and batch.y.dim() == 1
        parts = list(self._cut(batch))
        for number, (part, weight) in enumerate(parts, 1):
            with self._without_sync(forward, number < len(parts)):
                with torch.autocast(self.device.type, self.precision) if self.precision else nullcontext():
                    outputs = forward(part.x)
                E = _weighted(weight, self._mean_loss(outputs, part.y))
                each(E)
            losses.append(E.detach())
            if count:
                right.append(right_answers(outputs.detach(), part.y))
        sums = [self._sum(losses, torch.promote_types(self.theta[0].dtype, torch.float32))]
        sums += [self._sum(right, torch.int64)] if count else []
        E, *counted = self.ranks.added_up(sums)
        return Evaluation(E, counted[0] if counted else None)

    def _sum(self, numbers: list[Tensor], dtype: torch.dtype) -> Tensor:
        """The sum. A rank without images has a zero of the others' type, as ranks add up types apart."""
        return reduce(torch.add, numbers) if numbers else torch.zeros((), device=self.device, dtype=dtype)

    def _without_sync(self, forward: object, is_wanted: bool) -> AbstractContextManager[None]:
        """Under it gradients only add up: ranks exchange them once a batch, while the last backward runs."""
        if self.is_sharded:
            forward.set_requires_gradient_sync(not is_wanted)  # type: ignore[attr-defined]
        return forward.no_sync() if is_wanted and isinstance(forward, DistributedDataParallel) else nullcontext()

    # ------------------------------------------------------------------- looking

    def loss(self, batch: Batch | Stream, theta: Sequence[Tensor] | None = None) -> Tensor:
        """E at θ, or at another point of parameter space."""
        self.passes += FORWARD
        with torch.no_grad(), self._looking(theta):
            return self._total(batch)

    def trial(self, batch: Batch) -> Callable[[Sequence[Tensor]], Tensor]:
        """The loss that the coming `backward` of this batch will compute, as a function of θ.

        In its precision, and with the random numbers that it is about to draw, whenever the function is called.
        """
        past = self.redrawn()

        def loss(theta: Sequence[Tensor]) -> Tensor:
            self.passes += FORWARD
            with torch.no_grad(), past._looking(theta, self.precision):
                return self._total(batch)

        return loss

    def redrawn(self) -> Objective:
        """The same objective with the random numbers that come next, for example other masks of dropout."""
        past = copy.copy(self)
        past.past = Before(generators(self.device), self.past.buffers if self.past else {})
        return past

    def before(self) -> Before:
        """What `as_before` needs of the moment before a `backward`."""
        return Before(generators(self.device), {b: b.detach().clone() for b in self.model.buffers()})

    def as_before(self, before: Before, batch: Batch, E: Tensor) -> Objective:
        """The objective as the last `backward`, of that batch, found it; E is what it returned.

        It only looks, and θ must still be where it was. If training computed what a look would (without autocast, by
        the model itself), `gradient` of that batch is training's.
        """
        past = copy.copy(self)
        past.past = before
        if self.precision is None and self.forward is self.model:
            g = tuple(torch.zeros_like(p) if p.grad is None else p.grad for p in self.theta)
            past.known = batch, E, g
        return past

    def gradient(self, batch: Batch | Stream, theta: Sequence[Tensor] | None = None) -> tuple[Tensor, Vector]:
        """E and g at θ, or at another point."""
        if theta is None and self.known and batch is self.known[0]:
            return self.known[1], tuple(t.clone() for t in self.known[2])  # training's own stay as they are
        self.passes += GRADIENT
        E = torch.zeros((), device=self.device)
        with self._looking(theta):
            g = tuple(torch.zeros_like(p) for p in self.theta)
            for share in self._losses(batch):
                torch._foreach_add_(g, grad(share, self.theta))
                E = E + share.detach()
        E, *total = self.ranks.added_up([E, *g])
        return E, tuple(total)

    def hessian_product(self, batch: Batch | Stream, v: Sequence[Tensor]) -> Vector:
        """H(θ)v for any constant vector v of parameter space, by double backward: the gradient of ⟨g, v⟩."""
        self.passes += HESSIAN_PRODUCT
        total = tuple(torch.zeros_like(p) for p in self.theta)
        with self._looking(), own_double_backward():
            for share in self._losses(batch):
                g = grad(share, self.theta, create_graph=True)
                torch._foreach_add_(total, product(g, v, self.theta))
        return tuple(self.ranks.added_up(total))

    def gradient_and_hg(self, batch: Batch | Stream) -> tuple[Tensor, Vector, Vector]:
        """E, g and Hg at θ.

        One traversal of the batch where it is one micro-batch. A batch of several needs the whole g before the
        first product, so it is traversed twice.
        """
        largest_part = 0 if isinstance(batch, Stream) else -(-batch.images // self.ranks.size)
        if isinstance(batch, Stream) or (self.micro_batch is not None and largest_part > self.micro_batch):
            E, g = self.gradient(batch)
            return E, g, self.hessian_product(batch, g)
        self.passes += HESSIAN_PRODUCT
        with self._looking(), own_double_backward():
            (E,) = self._losses(batch)
            g = grad(E, self.theta, create_graph=True)
            E, *constant = self.ranks.added_up([E.detach(), *(t.detach() for t in g)])
            return E, tuple(constant), tuple(self.ranks.added_up(product(g, constant, self.theta)))

    def fits(self, batch: Batch, hessian: bool) -> bool:
        """Whether this rank has the memory for its part of a batch, in training or, with `hessian`, for Hg too."""
        try:
            with self._looking(precision=self.precision):
                for share in self._losses(batch):
                    grad(share, self.theta)
            if hessian:
                with self._looking(), own_double_backward():
                    for share in self._losses(batch):
                        g = grad(share, self.theta, create_graph=True)
                        product(g, [t.detach() for t in g], self.theta)
        except torch.OutOfMemoryError:
            return False
        return True

    def forward_error(self, batch: Batch) -> float:
        """‖g′ − g‖/‖g‖ in training's precision, where `forward` computes g′ and the model itself g. Leaves no trace."""
        forward = self.forward.module if isinstance(self.forward, DistributedDataParallel) else self.forward

        def gradient_by(forward: Callable[[Tensor], Tensor]) -> list[Tensor]:
            g = [torch.zeros_like(p) for p in self.theta]
            with self._looking():
                self._accumulate(batch, forward, lambda E: torch._foreach_add_(g, grad(E, self.theta)), count=False)
            return self.ranks.added_up(g)

        mine, expected = gradient_by(forward), gradient_by(self.model)
        return (norm(torch._foreach_sub(mine, expected)) / norm(expected)).item()

    def _total(self, batch: Batch | Stream) -> Tensor:
        """E where the parameters stand."""
        return self.ranks.added_up([sum(self._losses(batch), torch.zeros((), device=self.device))])[0]

    def _losses(self, batch: Batch | Stream) -> Iterator[Tensor]:
        """Each micro-batch's share of E."""
        for part, weight in self._cut(batch):
            yield _weighted(weight, self._mean_loss(self.model(part.x), part.y))

    def _mean_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The loss of a micro-batch. The shares of a batch add up to 1, and so to one regulariser."""
        E = self.loss_fn(outputs.float() if isinstance(outputs, Tensor) and outputs.dtype in HALF else outputs, y)
        return E + self.l2 / 2 * sum(p.square().sum() for p in self.theta) if self.l2 else E

    @contextmanager
    def _looking(self, theta: Sequence[Tensor] | None = None, precision: torch.dtype | None = None) -> Iterator[None]:
        """While this is open the parameters stand at θ, or at another point; then nothing has changed."""
        if self.is_sharded:
            raise RunError("engine.shard=true: no rank has the whole θ to look at; set probe=none, and take optim=clr")
        values = {} if theta is None else dict(zip(self.theta, theta, strict=True))
        values |= self.past.buffers if self.past else {}
        # The cache would know a parameter again, wherever it stands.
        autocast = torch.autocast(self.device.type, precision, enabled=precision is not None, cache_enabled=False)
        draws = same_draws(self.device, self.past.generators if self.past else None)
        with borrowed(self.model, values), draws, autocast:
            yield

    def _cut(self, batch: Batch | Stream) -> Iterator[tuple[Batch, float]]:
        """This rank's micro-batches, each with its share of all images."""
        parts, total = (batch.batches(), batch.size) if isinstance(batch, Stream) else ((batch,), batch.images)
        for part in parts:
            images = length(part.x)
            size = self.micro_batch or images
            if 0 < images <= size:
                yield part, images / total
            elif images:
                for x, y in zip(part.x.split(size), part.y.split(size), strict=True):
                    yield Batch(x, y), len(x) / total


def _weighted(weight: float, E: Tensor) -> Tensor:
    return E if weight == 1 else weight * E  # saves an autograd node, which a small model notices
