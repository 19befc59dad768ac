"""Rival methods from their authors' or others' packages: the optional extra [rivals].

Each function builds the package's own optimizer and adds what a run asks of it and it lacks: `tell_step_size`, where
it has a step size but not in `group["lr"]`, a complete `state_dict`, and copies by `copy.deepcopy` and `pickle`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import SGD, Optimizer

from corridor_exp.errors import UsageError, extra
from corridor_exp.optim.descent import attributes

Builder = Callable[..., Optimizer]


def copyable(build: Builder) -> Builder:
    """Let a copy be built anew and then given the data of the original: closures and local classes have no copies."""

    @functools.wraps(build)
    def built(params: Iterable[Tensor], **options: Any) -> Optimizer:
        optimizer: Any = build(params, **options)

        def reduce(protocol: object) -> tuple[Any, ...]:
            params = [p for group in optimizer.param_groups for p in group["params"]]
            return functools.partial(built, **options), (params,), attributes(optimizer)

        optimizer.__reduce_ex__ = reduce
        return optimizer

    return built


@copyable
def alig(params: Iterable[Tensor], *, step_cap: float | None = None, momentum: float = 0.0) -> Optimizer:
    """ALI-G (Berrada et al., ICML 2020), h = min{E/(‖g‖² + 1e-6), step_cap}, of `pytorch_optimizer`."""
    optimizer: Any = _package("pytorch_optimizer").AliG(params, max_lr=step_cap, momentum=momentum)
    optimizer.tell_step_size = lambda: optimizer.param_groups[0].get("step_size", 0.0)
    return optimizer


@copyable
def dadapt_sgd(params: Iterable[Tensor], *, lr: float = 1.0, momentum: float = 0.0, d0: float = 1e-6) -> Optimizer:
    """D-Adaptation of SGD (Defazio & Mishchenko, ICML 2023), of `pytorch_optimizer`; h = d·lr/‖g₀‖."""
    optimizer: Any = _package("pytorch_optimizer").DAdaptSGD(params, lr=lr, momentum=momentum, d0=d0)

    def tell_step_size() -> float:
        group = optimizer.param_groups[0]
        return group["d"] * group["lr"] / group["g0_norm"] if group.get("g0_norm") else 0.0

    optimizer.tell_step_size = tell_step_size
    return optimizer


@copyable
def prodigy(
    params: Iterable[Tensor],
    *,
    lr: float = 1.0,
    betas: Iterable[float] = (0.9, 0.999),
    d0: float = 1e-6,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Prodigy (Mishchenko & Defazio, ICML 2024), of `pytorch_optimizer`; Adam's learning rate is d·lr."""
    options = {"lr": lr, "betas": tuple(betas), "d0": d0, "weight_decay": weight_decay}
    optimizer: Any = _package("pytorch_optimizer").Prodigy(params, **options)
    optimizer.tell_step_size = lambda: optimizer.param_groups[0]["d"] * optimizer.param_groups[0]["lr"]
    return optimizer


@copyable
def schedule_free(
    params: Iterable[Tensor],
    *,
    lr: float = 1.0,
    momentum: float = 0.9,
    warmup_steps: int = 0,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Schedule-Free SGD (Defazio et al., NeurIPS 2024), of `pytorch_optimizer`; tested on its averaged weights."""
    options = {"lr": lr, "momentum": momentum, "warmup_steps": warmup_steps, "weight_decay": weight_decay}
    optimizer: Optimizer = _package("pytorch_optimizer").ScheduleFreeSGD(params, **options)
    return optimizer


@copyable
def momo(params: Iterable[Tensor], *, step_cap: float = 1.0, beta: float = 0.9, f_star: float = 0.0) -> Optimizer:
    """MoMo (Schaipp et al., ICML 2024), Polyak on moving averages with decay `beta`, of `momo-opt`.

    The package tells no step size, and keeps three numbers outside of its state.
    """
    optimizer: Any = _package("momo").Momo(params, lr=step_cap, beta=beta, lb=f_star)
    optimizer.tell_step_size = lambda: None
    numbers = ("_number_steps", "loss_avg", "lb")

    def add(_: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "numbers": {name: getattr(optimizer, name) for name in numbers if hasattr(optimizer, name)}}

    def restore(_: Optimizer, state: dict[str, Any]) -> None:
        vars(optimizer).update(state["numbers"])

    optimizer.register_state_dict_post_hook(add)
    optimizer.register_load_state_dict_pre_hook(restore)
    return optimizer


@copyable
def dog(params: Iterable[Tensor], *, reps_rel: float = 1e-6) -> Optimizer:
    """DoG (Ivgi et al., ICML 2023), h = max‖θ_i − θ₀‖/√Σ‖g_i‖², of the authors' `dog-optimizer`. Not averaged."""
    optimizer: Any = _package("dog").DoG(params, reps_rel=reps_rel)
    optimizer.tell_step_size = lambda: optimizer.param_groups[0].get("eta", [0.0])[0]

    def on_device(_: Optimizer, args: Any, kwargs: Any) -> None:
        """The package loads its sums to the CPU, and then cannot add to them."""
        for group in optimizer.param_groups:
            group.update({name: group[name].to(group["params"][0].device) for name in ("G", "rbar") if name in group})

    optimizer.register_step_pre_hook(on_device)
    return optimizer


@copyable
def mechanic(
    params: Iterable[Tensor], *, lr: float = 1.0, momentum: float = 0.0, s_decay: float = 0.01, s_init: float = 1e-8
) -> Optimizer:
    """Mechanic on SGD (Cutkosky, Defazio & Mehta, NeurIPS 2023), of the authors' `mechanic-pytorch`; h = s·lr.

    The package's state refers to the parameters themselves; in a checkpoint their numbers stand for them.
    """
    mechanize = _package("mechanic_pytorch").mechanize
    optimizer: Any = mechanize(SGD, s_decay=s_decay, s_init=s_init)(params, lr=lr, momentum=momentum)
    theta = [p for group in optimizer.param_groups for p in group["params"]]

    def tell_step_size() -> Tensor | float:
        tuner = optimizer.state.get("_mechanic")
        return optimizer.param_groups[0]["lr"] * tuner["s"].sum() if tuner else 0.0

    def renamed(state: dict[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
        tuner = state["state"].get("_mechanic", {})
        kept = {names.get(key, key): value for key, value in tuner.items()}
        return {**state, "state": {**state["state"], **({"_mechanic": kept} if kept else {})}}

    def restored(_: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        state = renamed(state, dict(enumerate(theta)))
        for p, tensors in state["state"].get("_mechanic", {}).items():
            if isinstance(p, Tensor):
                tensors.update({name: t.to(p.device) for name, t in tensors.items()})
        return state

    optimizer.tell_step_size = tell_step_size
    number = {p: i for i, p in enumerate(theta)}
    optimizer.register_state_dict_post_hook(lambda _, state: renamed(state, number))
    optimizer.register_load_state_dict_pre_hook(restored)
    return optimizer


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"{name} is not installed: {extra('rivals')}") from error
