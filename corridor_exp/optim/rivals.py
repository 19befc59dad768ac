"""Rival methods from their authors' or others' packages: the optional extra [rivals].

Each function builds the package's own optimizer and adds what a run asks of it and it lacks: its step size, where that
is not `group["lr"]`, a complete `state_dict`, and copies by `copy.deepcopy` and `pickle`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from corridor_exp.errors import UsageError, extra
from corridor_exp.optim.contract import Adapter, parameters
from corridor_exp.optim.descent import attributes

Params = Iterable[Tensor]


def alig(params: Params, *, step_cap: float | None = None, momentum: float = 0.0) -> Adapter:
    """ALI-G (Berrada et al., ICML 2020), h = min{E/(‖g‖² + 1e-6), step_cap}, of `pytorch_optimizer`."""
    return Adapter(_copyable(partial(_alig, max_lr=step_cap, momentum=momentum), params), _step_of_alig)


def _alig(params: Params, **options: Any) -> Optimizer:
    """A checkpoint does not change the cap, whose name in the package is not the option's."""
    optimizer: Any = _package("pytorch_optimizer").AliG(params, **options)
    step = optimizer.step
    optimizer.step = lambda closure: step(lambda: closure().clamp(min=0))  # below its bound the package would climb

    def restore(_: Optimizer) -> None:
        for group in optimizer.param_groups:
            group["max_lr"] = options["max_lr"]

    optimizer.register_load_state_dict_post_hook(restore)
    return optimizer


def _step_of_alig(optimizer: Optimizer) -> float:
    return optimizer.param_groups[0].get("step_size", 0.0)


def dadapt_sgd(params: Params, *, lr: float = 1.0, momentum: float = 0.0, d0: float = 1e-6) -> Adapter:
    """D-Adaptation of SGD (Defazio & Mishchenko, ICML 2023), of `pytorch_optimizer`; h = d·lr/‖g₀‖."""
    build = partial(_d_adaptation, "DAdaptSGD", lr=lr, momentum=momentum, d0=d0)
    return Adapter(_copyable(build, params), _step_of_dadapt_sgd)


def _step_of_dadapt_sgd(optimizer: Any) -> float:
    group = optimizer.param_groups[0]
    return optimizer.d_taken * group["lr"] / group["g0_norm"] if group.get("g0_norm") else 0.0


def _d_adaptation(name: str, params: Params, **options: Any) -> Optimizer:
    """The package computes the next d within a step; `d_taken` is the d of the step itself."""
    optimizer: Any = getattr(_package("pytorch_optimizer"), name)(params, **options)
    optimizer.d_taken = 0.0

    def keep(_: Optimizer, args: Any, kwargs: Any) -> None:
        optimizer.d_taken = optimizer.param_groups[0]["d"]

    optimizer.register_step_pre_hook(keep)
    return optimizer


def prodigy(
    params: Params,
    *,
    lr: float = 1.0,
    betas: Iterable[float] = (0.9, 0.999),
    d0: float = 1e-6,
    weight_decay: float = 0.0,
) -> Adapter:
    """Prodigy (Mishchenko & Defazio, ICML 2024), of `pytorch_optimizer`; Adam's learning rate is d·lr."""
    options: dict[str, Any] = {"lr": lr, "betas": tuple(betas), "d0": d0, "weight_decay": weight_decay}
    return Adapter(_copyable(partial(_d_adaptation, "Prodigy", **options), params), _step_of_prodigy)


def _step_of_prodigy(optimizer: Any) -> float:
    return optimizer.d_taken * optimizer.param_groups[0]["lr"]


def schedule_free(
    params: Params, *, lr: float = 1.0, momentum: float = 0.9, warmup_steps: int = 0, weight_decay: float = 0.0
) -> Adapter:
    """Schedule-Free SGD (Defazio et al., NeurIPS 2024), of `pytorch_optimizer`; tested on its averaged weights."""
    options = {"lr": lr, "momentum": momentum, "warmup_steps": warmup_steps, "weight_decay": weight_decay}
    return Adapter(_copyable(partial(_package("pytorch_optimizer").ScheduleFreeSGD, **options), params))


def momo(params: Params, *, step_cap: float = 1.0, beta: float = 0.9, f_star: float = 0.0) -> Adapter:
    """MoMo (Schaipp et al., ICML 2024), Polyak on moving averages with decay `beta`, of `momo-opt`.

    The package does not say its step size.
    """
    return Adapter(_copyable(partial(_momo, "Momo", lr=step_cap, beta=beta, lb=f_star), params), _no_step_size)


def momo_adam(
    params: Params, *, step_cap: float = 0.01, betas: Iterable[float] = (0.9, 0.999), f_star: float = 0.0
) -> Adapter:
    """MoMo-Adam (Schaipp et al., ICML 2024), MoMo in the norm of Adam's preconditioner, of `momo-opt`.

    The package does not say its step size.
    """
    build = partial(_momo, "MomoAdam", lr=step_cap, betas=tuple(betas), lb=f_star)
    return Adapter(_copyable(build, params), _no_step_size)


def _no_step_size(optimizer: Optimizer) -> None:
    return None


def _momo(name: str, params: Params, **options: Any) -> Optimizer:
    optimizer = getattr(_package("momo"), name)(params, **options)
    return _with_all_gradients(_with_numbers(optimizer, "_number_steps", "loss_avg"))


def sps_safe(params: Params, *, safeguard: float = 1.0, f_star: float = 0.0) -> Adapter:
    """SPS_safe (Oikonomou & Loizou, ICML 2026), h = (E − f*)/max(‖g‖², M), of the authors' `sps-safe`."""
    return Adapter(_copyable(partial(_sps_safe, "SPS_safe", M=safeguard, ell_star=f_star), params), _step_of_sps_safe)


def _step_of_sps_safe(optimizer: Any) -> float:
    return optimizer.ss


def ima(params: Params, *, momentum: float = 0.5, safeguard: float = 1.0, f_star: float = 0.0) -> Adapter:
    """IMA-SPS_safe (Oikonomou & Loizou, ICML 2026), the iterate moving average of the authors' `sps-safe`.

    z′ = z − ηg and θ′ = (λθ + z′)/(λ + 1), η = max(0, E − f* + ⟨g, z − θ⟩)/max(‖g‖², M): heavy-ball momentum
    β = λ/(1 + λ) with h = η/(1 + λ), which is the step that it tells.
    """
    build = partial(_ima, lambd=momentum / (1 - momentum), M=safeguard, ell_star=f_star)
    return Adapter(_copyable(build, params), _step_of_ima)


def _ima(params: Params, **options: Any) -> Optimizer:
    """The package takes `item()` of a quotient of M, which must be a tensor where the numerator is cut to 0."""
    optimizer: Any = _sps_safe("IMA_SPS_safe", params, **options)
    theta = optimizer.param_groups[0]["params"][0]
    optimizer.M = torch.tensor(optimizer.M, dtype=theta.dtype, device=theta.device)
    return optimizer


def _step_of_ima(optimizer: Any) -> float:
    return optimizer.ss / (1 + optimizer.lambd)


def _sps_safe(name: str, params: Params, **options: Any) -> Optimizer:
    """The package's `step` takes the loss, where a run gives a closure. Below f* its SPS_safe would climb."""
    optimizer: Any = _with_numbers(getattr(_package("sps_safe"), name)(params, **options), "number_steps")
    step, least = optimizer.step, options["ell_star"] if name == "SPS_safe" else -math.inf
    optimizer.step = lambda closure: step(loss=closure().clamp(min=least))
    return _with_all_gradients(optimizer)


def _with_all_gradients(optimizer: Optimizer) -> Optimizer:
    """The optimizer of a package that reads `p.grad` of every parameter: one that is frozen or unused has 0."""

    def fill(_: Optimizer, args: Any, kwargs: Any) -> None:
        for p in parameters(optimizer):
            if p.grad is None:
                p.grad = torch.zeros_like(p)

    optimizer.register_step_pre_hook(fill)
    return optimizer


def _with_numbers(optimizer: Any, *names: str) -> Optimizer:
    """The optimizer, with numbers in its `state_dict` that its package keeps outside of it."""

    def add(_: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "numbers": {name: getattr(optimizer, name) for name in names if hasattr(optimizer, name)}}

    def restore(_: Optimizer, state: dict[str, Any]) -> None:
        vars(optimizer).update(state["numbers"])

    optimizer.register_state_dict_post_hook(add)
    optimizer.register_load_state_dict_pre_hook(restore)
    return optimizer


def dog(params: Params, *, reps_rel: float = 1e-6) -> Adapter:
    """DoG (Ivgi et al., ICML 2023), h = max‖θ_i − θ₀‖/√Σ‖g_i‖², of the authors' `dog-optimizer`. Not averaged."""
    return Adapter(_copyable(partial(_dog, reps_rel=reps_rel), params), _step_of_dog)


def _step_of_dog(optimizer: Optimizer) -> Tensor | float:
    return optimizer.param_groups[0].get("eta", [0.0])[0]


def _dog(params: Params, **options: Any) -> Optimizer:
    """The package loads its sums to the CPU, and then cannot add to them; here they are moved to the parameters."""
    optimizer: Any = _package("dog").DoG(params, **options)

    def on_device(_: Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            group.update({name: group[name].to(group["params"][0].device) for name in ("G", "rbar") if name in group})

    optimizer.register_step_pre_hook(on_device)
    return _with_all_gradients(optimizer)


def mechanic(
    params: Params, *, lr: float = 1.0, momentum: float = 0.0, s_decay: float = 0.01, s_init: float = 1e-8
) -> Adapter:
    """Mechanic on SGD (Cutkosky, Defazio & Mehta, NeurIPS 2023), of the authors' `mechanic-pytorch`; h = s·lr."""
    build = partial(_mechanic, lr=lr, momentum=momentum, s_decay=s_decay, s_init=s_init)
    return Adapter(_copyable(build, params), _step_of_mechanic)


def _step_of_mechanic(optimizer: Optimizer) -> Tensor | float:
    tuner = optimizer.state.get("_mechanic")  # type: ignore[call-overload]
    return optimizer.param_groups[0]["lr"] * tuner["s"].sum() if tuner else 0.0


def _mechanic(params: Params, *, lr: float, momentum: float, s_decay: float, s_init: float) -> Optimizer:
    """The package's state refers to the parameters themselves; in a `state_dict` their numbers stand for them."""
    mechanize = _package("mechanic_pytorch").mechanize
    optimizer: Any = mechanize(SGD, s_decay=s_decay, s_init=s_init)(params, lr=lr, momentum=momentum)
    theta = parameters(optimizer)
    number = {p: i for i, p in enumerate(theta)}

    def renamed(state: dict[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
        tuner = {names.get(key, key): value for key, value in state["state"].get("_mechanic", {}).items()}
        return {**state, "state": {**state["state"], **({"_mechanic": tuner} if tuner else {})}}

    def restore(_: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        state = renamed(state, dict(enumerate(theta)))
        if tuner := state["state"].get("_mechanic"):
            tuner["s_decay"] = torch.tensor(s_decay)  # an option, and no memory
        for p, tensors in state["state"].get("_mechanic", {}).items():
            if isinstance(p, Tensor):
                tensors.update({name: t.to(p.device) for name, t in tensors.items()})
        return state

    optimizer.register_state_dict_post_hook(lambda _, state: renamed(state, number))
    optimizer.register_load_state_dict_pre_hook(restore)
    return optimizer


def _copyable(build: Callable[[Params], Optimizer], params: Params) -> Optimizer:
    """What `build(params)` makes. A copy is built anew and then given the data: hooks and local classes have no copies.

    `build` itself must be one that pickle takes.
    """
    optimizer: Any = build(params)

    def reduce(protocol: object) -> tuple[Any, ...]:
        return partial(_copyable, build), (parameters(optimizer),), attributes(optimizer)

    optimizer.__reduce_ex__ = reduce
    return optimizer


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"{name} is not installed: {extra('rivals')}") from error
