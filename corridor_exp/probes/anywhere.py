"""A look at any PyTorch model, in a training loop of one's own."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from scipy.sparse.linalg import ArpackError
from torch import Tensor, nn

from corridor_exp.errors import NoHessianError, RunError
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import Stream, length
from corridor_exp.probes.base import Quantities
from corridor_exp.probes.corridor import Corridor
from corridor_exp.probes.noise import between
from corridor_exp.probes.sharpness import Sharpness
from corridor_exp.runs import records
from corridor_exp.theory.vectors import is_sharded, norm

WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}  # of torch
OF_CLRS_STEP = (
    *(records.CLR_STEP, records.SECANT_HG_NORM, records.SECANT_CORRIDOR_INDEX),
    *(records.DECREASE_RATIO, records.GRADIENT_ALIGNMENT),
)
OF_HG = (records.HG_NORM, records.CORRIDOR_INDEX, records.GRADIENT_CURVATURE, records.SECANT_COSINE)
NOT_FINITE = "not finite: the loss, its gradient or Hg overflows, at θ or on CLR's step"
WHY_NOT_FINITE = {
    records.DECREASE_RATIO: "the loss is below 100 of its rounding errors, or not finite at the end of CLR's step",
    records.SECANT_COSINE: "Hg or the change of the gradient is 0, or not finite",
    records.GROWTH_RATIO: "the noise hides the gradient: give more batches",
    records.NOISE_SCALE: "the noise hides the gradient: give more batches",
}


class Look(dict[str, float | None]):
    """Quantities by name, as in the records of a run. None is a question without an answer; `why` says why, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.why: dict[str, str] = {}

    def add(self, quantities: Quantities) -> None:
        for name, value in quantities.items():
            self[name] = value.item()
            if not math.isfinite(value):
                self.cannot([name], WHY_NOT_FINITE.get(name, NOT_FINITE))

    def cannot(self, names: Any, why: str) -> None:
        for name in names:
            self[name], self.why[name] = None, why


def look(
    model: nn.Module,
    loss_fn: Callable[[Any, Any], Tensor],
    x: Any,
    y: Any,
    *,
    hessian: bool = True,
    layers: bool = False,
    sharpness: bool = False,
    noise: bool = False,
) -> Look:
    """The distance from a corridor at the parameters of `model`, as `probe=corridor` measures it.

    E = loss_fn(model(x), y) is the mean over a batch, a scalar. x and y may be lists of batches, such as the parts of
    one accumulated step: then E, its gradient g and Hg are those of the mean over all their images.

    The result has `train/loss` (E), `train/grad_norm` and the `probe/…` quantities of docs/measuring.md as numbers.
    What has no answer is None, and `result.why[name]` says why. `hessian=False` leaves out Hg, and halves the cost.
    `layers` adds ‖Hg‖ of each layer, `sharpness` the largest eigenvalue of H, and `noise` the noise of the gradient
    between the batches of the lists, as if they were drawn independently.

    Nothing changes: no parameter, `.grad`, buffer, random number or mode of a module. The model is seen in the mode in
    which it is, without autocast, compilation and other ranks, and also under `no_grad` and `inference_mode`.

    Raises `RunError`, one line with the cure, for what cannot be measured at all.
    """
    with _plain_torch():
        model, batches = _plain(model), _batches(x, y, loss_fn, noise)
        objective = Objective(model, loss=_checked(loss_fn))
        data = batches[0] if len(batches) == 1 else Stream(sum(b.images for b in batches), lambda: iter(batches))
        seen = Look()
        has_hessian = _add_corridor(seen, objective, data, hessian, layers)
        if sharpness:
            _add_sharpness(seen, objective, data)
        if noise:
            _add_noise(seen, objective, batches, has_hessian)
        return seen


def _add_corridor(seen: Look, objective: Objective, data: Batch | Stream, hessian: bool, layers: bool) -> bool:
    """Whether the model has second derivatives that were asked for."""
    hg = None
    try:
        if hessian:
            E, g, hg = objective.gradient_and_hg(data)
    except NoHessianError as error:
        seen.cannot(OF_HG, error.reason)
    if hg is None:
        E, g = objective.gradient(data)
    seen.add({records.TRAIN_LOSS: E, records.TRAIN_GRAD_NORM: norm(g)})
    asked = (*OF_CLRS_STEP, *(OF_HG if hg is not None else ()))
    if seen[records.TRAIN_LOSS] is None:
        seen.cannot(asked, "the loss is not finite")
    elif not seen[records.TRAIN_GRAD_NORM]:
        seen.cannot(asked, "the gradient is 0 or not finite")
    else:
        seen.add(Corridor(layers=layers).measure(objective, data, E, g, hg))
        if E <= 0:
            why = "the loss is not positive, and CLR steps to 0: subtract a lower bound from the loss"
            seen.cannot(set(asked) - {records.HG_NORM, records.GRADIENT_CURVATURE}, why)
    return hg is not None


def _add_sharpness(seen: Look, objective: Objective, data: Batch | Stream) -> None:
    try:
        seen[records.SHARPNESS] = float(Sharpness().largest(objective, data)[0])
    except NoHessianError as error:
        seen.cannot([records.SHARPNESS], error.reason)
    except (ArpackError, ValueError, MemoryError) as error:
        seen.cannot([records.SHARPNESS], str(error))


def _add_noise(seen: Look, objective: Objective, batches: list[Batch], hessian: bool) -> None:
    noise = between(objective, batches, math.inf, hessian)
    seen.add(noise)
    if seen[records.BATCH_GRAD_NORM_SQ] is None:
        seen.cannot(noise, "the gradient of a batch is not finite")
    if records.HG_NORM in seen.why:
        seen.cannot([records.BATCH_SHARPNESS], seen.why[records.HG_NORM])


# -------------------------------------------------------- what comes from a stranger's loop


@contextmanager
def _plain_torch() -> Iterator[None]:
    """With gradients, without compiled code, and without autocast, also where a model opens it, as accelerate's do."""
    enter = torch.autocast.__enter__

    def enter_turned_off(autocast: torch.autocast) -> Any:
        entered = enter(autocast)
        torch.set_autocast_enabled(autocast.device, False)
        return entered

    # The compiler is imported by its first use only, which takes seconds.
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    off = patch.object(torch.autocast, "__enter__", enter_turned_off)
    with torch.inference_mode(False), torch.enable_grad(), eager, off:
        yield


def _plain(model: nn.Module) -> nn.Module:
    """The module inside the wrappers of compilation and of ranks. Raises `RunError` if its θ cannot be looked at."""
    while (inner := vars(model)["_modules"].get(WRAPPERS.get(type(model).__name__, ""))) is not None:
        model = inner
    theta = [p for p in model.parameters() if p.requires_grad]
    if not theta:
        raise RunError("no parameter of the model requires a gradient: call look before freezing or exporting it")
    if type(model).__name__ == "FullyShardedDataParallel" or any(map(is_sharded, theta)):
        raise RunError("the parameters are sharded (FSDP), and no rank has all of them: look at a copy on one rank")
    if dtype := next((p.dtype for p in theta if p.dtype in (torch.float16, torch.bfloat16)), None):
        raise RunError(
            f"the parameters are {dtype}, in which changes over half a step are lost: "
            "look at copy.deepcopy(model).float(), or train by autocast"
        )
    return model


def _batches(x: Any, y: Any, loss_fn: Any, noise: bool) -> list[Batch]:
    """The batches of two lists, or the one batch. Raises `RunError` if they do not go together."""
    xs, ys = (x, y) if isinstance(x, list) else ([x], [y])
    if not isinstance(ys, list) or len(xs) != len(ys) or not xs:
        raise RunError("x and y must be two batches, or two lists of as many batches")
    try:
        sizes = {length(part) for part in xs}
    except TypeError:
        raise RunError(
            "x has no number of images: give a tensor of a batch, or a tuple or dictionary of such"
        ) from None
    if 0 in sizes:
        raise RunError("a batch is empty: give at least one image")
    if noise and (len(xs) < 2 or len(sizes) > 1):
        raise RunError("noise=True needs lists of at least two batches of one size: leave out a smaller last one")
    if len(xs) > 1 and getattr(loss_fn, "reduction", "mean") == "sum":
        raise RunError("the loss is a sum, and lists of batches need a mean: set reduction='mean'")
    return [Batch(_usable(a), _usable(b)) for a, b in zip(xs, ys, strict=True)]


def _usable(value: Any) -> Any:
    """A tensor that autograd may save, also if it was made under `inference_mode`."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def _checked(loss_fn: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    """The same loss. Raises `RunError` if it is no scalar."""

    def loss(outputs: Any, y: Any) -> Tensor:
        E = loss_fn(outputs, y)
        if not isinstance(E, Tensor) or E.numel() != 1:
            what = f"of shape {tuple(E.shape)}" if isinstance(E, Tensor) else type(E).__name__
            raise RunError(
                f"loss_fn must return the mean loss of the batch, a scalar, and returns {what}: take its mean"
            )
        if torch.is_grad_enabled() and not E.requires_grad:
            raise RunError("the loss depends on no parameter that requires a gradient: was it detached?")
        return E.reshape(())

    return loss
