"""From a configuration to the objects of a run, on one device."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from corridor_exp.config.schema import Checkpoint, Component, Config
from corridor_exp.datasets.base import Dataset, mixed_seed
from corridor_exp.engine.loop import Engine, Plan
from corridor_exp.errors import RunError, UsageError
from corridor_exp.models.haiku import DebiasedBatchNorm2d
from corridor_exp.objective import Objective
from corridor_exp.objective.batches import DataShape
from corridor_exp.objective.ranks import ALONE, Ranks, shard
from corridor_exp.optim import build_schedule

T = TypeVar("T")
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
UNFIT: dict[object, str] = {  # the optimizers of torch that need what a run does not give
    torch.optim.LBFGS: "within a step it evaluates the loss anew at other parameters, and a run gives it once",
    torch.optim.SparseAdam: "it takes sparse gradients, and a run's are dense",
}


def pick_device(asked: str, ranks: Ranks = ALONE) -> torch.device:
    """The device that `engine.device` names; `auto` is a CUDA device, of each rank one of its own, or the CPU."""
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cuda" and ranks.size > 1:
        asked = f"cuda:{ranks.local}"
    device = torch.device(asked)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RunError(f"engine.device={asked}: there is no such CUDA device here; take engine.device=auto or cpu")
    return device


def build_engine(config: Config, should_stop: Callable[[], bool] = lambda: False, ranks: Ranks = ALONE) -> Engine:
    """Everything that a run needs, as it is before the first step. The seed decides the initial θ."""
    settings = config.engine
    for component in config.components().values():
        component.factory()  # refuse what is not to be trusted before anything is built
    device = pick_device(settings.device, ranks)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.tf32

    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if computes_bf16(device) else "fp32"
    channels_last = precision != "fp32" if settings.channels_last == "auto" else settings.channels_last
    dataset: Dataset = config.dataset.build(device=device, seed=config.seed, channels_last=channels_last)
    dataset.ranks = ranks
    torch.manual_seed(config.seed)
    model = _made(nn.Module, config.model, dataset.shape)
    if ranks.rank:
        torch.manual_seed(mixed_seed("rank", config.seed, ranks.rank))  # its dropout is its own
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    if settings.precision == "auto" and not convolutional:
        precision = "fp32"
    model.to(device)
    if channels_last and not settings.shard:  # which takes contiguous parameters only
        model.to(memory_format=torch.channels_last)

    batch_size = dataset.train_size if config.batch_size == "full" else int(config.batch_size)
    if not dataset.steps(batch_size):
        raise RunError(
            f"batch_size={batch_size} leaves no batch of {dataset.train_size} images with dataset.drop_last=true"
        )
    smallest = batch_size if config.dataset.drop_last else dataset.train_size % batch_size or batch_size
    if smallest < ranks.size:
        raise RunError(f"the smallest batch, of {smallest} images, has none for some of the {ranks.size} ranks")
    if not settings.sync_batch_norm or ranks.size == 1:
        _refuse_a_single_image(config, model, dataset, batch_size, ranks)
    if settings.sync_batch_norm:
        if any(isinstance(module, DebiasedBatchNorm2d) for module in model.modules()):
            raise RunError("engine.sync_batch_norm=true: torch's has not the running statistics of Haiku's networks")
        if device.type != "cuda":
            raise RunError("engine.sync_batch_norm=true: torch has it for CUDA devices only")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if settings.shard:
        if ranks.size == 1 or config.l2 or settings.flat_gradients:
            raise RunError("engine.shard=true needs several ranks (torchrun), l2=0 and engine.flat_gradients=false")
        shard(model)
    plan = Plan(
        epochs=config.epochs,
        batch_size=batch_size,
        max_steps=config.max_steps,
        target_loss=config.target_loss,
        log_every=config.log_every,
        eval_every=config.eval_every,
        probe_every=config.probe.every,
        **saving(config.checkpoint),
    )
    optimizer, schedule = build_optimizer(config, model, dataset.steps(batch_size))
    return Engine(
        Objective(
            model,
            dataset.loss,
            l2=config.l2,
            micro_batch=settings.micro_batch,
            precision=AUTOCAST[precision],
            forward=torch.compile(model) if settings.compile else None,
            flat_gradients=settings.flat_gradients,
            ranks=ranks,
        ),
        dataset,
        optimizer,
        plan,
        schedule=schedule,
        probes=[probe.build(dataset=dataset, batch_size=batch_size) for probe in config.probe.components().values()],
        scaler=torch.amp.GradScaler(device.type) if precision == "fp16" else None,
        should_stop=should_stop,
        show_progress=ranks.is_first,
    )


def _made(kind: type[T], option: Component, *args: Any, **kwargs: Any) -> T:
    """What an option builds. Raises `UsageError` if that is of another kind, as where a `return` is missing."""
    made = option.build(*args, **kwargs)
    if not isinstance(made, kind):
        raise UsageError(f"_target_={option.target} returns {type(made).__name__}, and not {kind.__name__}")
    return made


def _refuse_a_single_image(config: Config, model: nn.Module, dataset: Dataset, batch_size: int, ranks: Ranks) -> None:
    """Raise `RunError` if the model's batch norm would meet one value a channel, of which there is no variance.

    torch would say so in the middle of the run: where an epoch's last batch, or the last micro-batch, is one image.
    """
    ends_epoch = config.max_steps is None or config.max_steps >= dataset.steps(batch_size)
    sees_all = ends_epoch or any(probe.images == "train" for probe in config.probe.components().values())
    last = dataset.train_size % batch_size if sees_all and not config.dataset.drop_last else 0
    sizes = {min(batch_size, dataset.train_size), last}
    parts = {part for size in sizes for part in (size // ranks.size, -(-size // ranks.size)) if part}
    micro_batch = config.engine.micro_batch
    cuts = {cut for part in parts for cut in (min(part, micro_batch or part), part % (micro_batch or part))}
    if 1 in cuts and _needs_several_images(model, dataset.shape):
        micro = f" in micro-batches of {micro_batch}" if micro_batch else ""
        raise RunError(
            f"batch_size={batch_size}{micro} leaves one image of {dataset.train_size} alone, and batch norm needs more "
            "than one value a channel: set dataset.drop_last=true, or another batch_size or engine.micro_batch"
        )


def _needs_several_images(model: nn.Module, shape: DataShape) -> bool:
    """Whether the model's batch norm refuses one image, which depends on the pixels that it sees of it."""
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return False
    device = next(model.parameters()).device
    pixels = () if shape.stem == "none" else (shape.size, shape.size)
    try:
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            copy.deepcopy(model).train()(torch.zeros(1, shape.channels, *pixels, device=device))
    except Exception as error:  # also that a model of one's own takes no such input
        return "more than 1 value per channel" in str(error)
    return False


def build_optimizer(config: Config, model: nn.Module, steps_per_epoch: int) -> tuple[Optimizer, LRScheduler | None]:
    """The optimizer, and the schedule if its step is to change by one.

    Raises `UsageError` for a class of torch.optim that needs what a run, or this network, does not give.
    """
    target, factory = config.optim.target, config.optim.factory()
    if factory in UNFIT:
        raise UsageError(f"optim._target_={target} cannot train here: {UNFIT[factory]}")
    takes, is_torchs = inspect.signature(factory).parameters, target.startswith("torch.optim.")
    options: dict[str, Any] = {}
    if is_torchs and "fused" in takes:
        # One pass over memory, and a guard against NaN: see `guarded_step`. Of shards torch has no such kernel of SGD,
        # and on CUDA none of Adagrad.
        lacking = factory is torch.optim.Adagrad and next(model.parameters()).is_cuda
        options["fused"] = not (config.engine.shard or lacking)
    if "steps_per_epoch" in takes:
        options["steps_per_epoch"] = steps_per_epoch  # by which SPS smooths its bound
    try:
        optimizer = _made(Optimizer, config.optim, model.parameters(), **options)
    except (RuntimeError, TypeError, ValueError) as error:  # such as Muon's, of a parameter that is no matrix
        if not is_torchs:
            raise
        raise UsageError(f"optim._target_={target}: {error}") from None
    schedule = config.optim.schedule
    return optimizer, build_schedule(optimizer, schedule, config.epochs * steps_per_epoch) if schedule else None


def saving(checkpoint: Checkpoint) -> dict[str, Any]:
    """The part of a plan that says when to save."""
    every = checkpoint.every
    if isinstance(every, int):
        return {"save_every": every, "best": checkpoint.best}
    return {"save_every": None, "save_minutes": float(every.removesuffix("min")), "best": checkpoint.best}


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 units; a CPU without them emulates bf16 many times slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch has none
    return any(capabilities.get(unit, False) for unit in ("amx_bf16", "avx512_bf16", "bf16"))
