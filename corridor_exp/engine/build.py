"""From a configuration to the objects of a run, on one device."""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from corridor_exp.config.component import Component
from corridor_exp.config.schema import Config
from corridor_exp.datasets.base import Dataset, mixed_seed
from corridor_exp.datasets.from_torch import build_dataset
from corridor_exp.engine.loop import Engine, Plan
from corridor_exp.errors import RunError, UsageError
from corridor_exp.models.foreign import arguments_for
from corridor_exp.models.haiku import DebiasedBatchNorm2d
from corridor_exp.objective import Objective
from corridor_exp.objective.batches import DataShape, Loss
from corridor_exp.objective.losses import half_squared_error, logistic_loss
from corridor_exp.objective.ranks import ALONE, Ranks, shard
from corridor_exp.optim import GuardedOptimizer, build_schedule, guarded

T = TypeVar("T")
SAME_DRAWS: dict[str, Any] = {"fallback_random": True}  # compiled dropout draws what the plain model would
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(asked: str, ranks: Ranks = ALONE) -> torch.device:
    """The device that `engine.device` names. `auto` is a CUDA device, another one for each rank, or else the CPU."""
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cuda" and ranks.size > 1:
        asked = f"cuda:{ranks.local}"
    device = torch.device(asked)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RunError(f"engine.device={asked}: there is no such CUDA device here; take engine.device=auto or cpu")
    return device


def build_engine(config: Config, ranks: Ranks = ALONE, **outlets: Any) -> Engine:
    """All objects of a run, before its first step. The seed decides the initial θ.

    `outlets` are arguments of `Engine`: `emit`, `save`, `should_stop`, `show_progress`.
    """
    settings = config.engine
    for component in config.components().values():
        component.factory()  # refuses an untrusted target before anything is built
    device = pick_device(settings.device, ranks)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.tf32

    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if computes_bf16(device) else "fp32"
    channels_last = precision != "fp32" if settings.channels_last == "auto" else settings.channels_last
    dataset = build_dataset(config.dataset, device=device, seed=config.seed, channels_last=channels_last)
    dataset.ranks = ranks
    model = _build_model(config, dataset, device, channels_last)
    if settings.precision == "auto" and not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        precision = "fp32"
    batch_size = dataset.train_size if config.batch_size == "full" else int(config.batch_size)
    _refuse_batches(config, model, dataset, batch_size)
    model = _over_ranks(config, model, ranks)
    optimizer, schedule = build_optimizer(config, model, dataset.steps(batch_size))
    return Engine(
        Objective(
            model,
            _loss(config.loss, dataset),
            l2=config.l2,
            micro_batch=settings.micro_batch,
            precision=AUTOCAST[precision],
            forward=torch.compile(model, options=SAME_DRAWS) if settings.compile else None,
            ranks=ranks,
        ),
        dataset,
        optimizer,
        _plan(config, batch_size),
        schedule=schedule,
        probes=[probe.build(dataset=dataset, batch_size=batch_size) for probe in config.probe.components().values()],
        scaler=torch.amp.GradScaler(device.type) if precision == "fp16" else None,
        **outlets,
    )


def _build_model(config: Config, dataset: Dataset, device: torch.device, channels_last: bool) -> nn.Module:
    """The model on its device, the same on all ranks. After this each rank has random numbers of its own."""
    torch.manual_seed(config.seed)
    arguments, keywords = arguments_for(config.model.factory(), dataset.shape)
    model = _made(nn.Module, config.model, *arguments, **{**keywords, **config.model.keywords()})
    if dataset.ranks.rank:
        torch.manual_seed(mixed_seed("rank", config.seed, dataset.ranks.rank))  # for its own dropout
    model.to(device)
    if channels_last and not config.engine.shard:  # sharding needs contiguous parameters
        model.to(memory_format=torch.channels_last)
    return model


def _over_ranks(config: Config, model: nn.Module, ranks: Ranks) -> nn.Module:
    """The model, with batch norm over all ranks or with parameters sharded over them if the configuration says so."""
    if config.engine.sync_batch_norm:
        if any(isinstance(module, DebiasedBatchNorm2d) for module in model.modules()):
            raise RunError("engine.sync_batch_norm=true: torch's has not the running statistics of Haiku's networks")
        if next(model.parameters()).device.type != "cuda":
            raise RunError("engine.sync_batch_norm=true: torch has it for CUDA devices only")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if config.engine.shard:
        if ranks.size == 1 or config.l2:
            raise RunError("engine.shard=true needs several ranks (torchrun) and l2=0")
        shard(model)
    return model


def _loss(name: str, dataset: Dataset) -> Loss:
    """The loss of that name. A class is built without arguments. Raises `RunError` for classes that the data lack."""
    if name == "mse":
        return half_squared_error
    if name == "cross_entropy" and dataset.loss not in (F.cross_entropy, logistic_loss):
        raise RunError("loss=cross_entropy needs classes, and this data set has numbers to fit: take loss=mse")
    if "." not in name:
        return dataset.loss
    loss = Component(_target_=name)
    return loss.build() if isinstance(loss.factory(), type) else loss.factory()


def _plan(config: Config, batch_size: int) -> Plan:
    every = config.checkpoint.every
    return Plan(
        epochs=config.epochs,
        batch_size=batch_size,
        max_steps=config.max_steps,
        target_loss=config.target_loss,
        log_every=config.log_every,
        eval_every=config.eval_every,
        probe_every=config.probe.every,
        probe_until=config.probe.until or math.inf,
        save_every=every if isinstance(every, int) else None,
        save_minutes=math.inf if isinstance(every, int) else float(every.removesuffix("min")),
        best=config.checkpoint.best,
    )


def _made(kind: type[T], option: Component, *args: Any, **kwargs: Any) -> T:
    """The object of an option. Raises `UsageError` if it has another type, such as None where a `return` is missing."""
    made = option.build(*args, **kwargs)
    if not isinstance(made, kind):
        raise UsageError(f"_target_={option.target} returns {type(made).__name__}, and not {kind.__name__}")
    return made


def _refuse_batches(config: Config, model: nn.Module, dataset: Dataset, batch_size: int) -> None:
    """Raise `RunError` if there is no batch, if a rank would get none, or if batch norm would get a single image."""
    ranks = dataset.ranks
    if not dataset.steps(batch_size):
        raise RunError(
            f"batch_size={batch_size} leaves no batch of {dataset.train_size} images with dataset.drop_last=true"
        )
    smallest = batch_size if config.dataset.drop_last else dataset.train_size % batch_size or batch_size
    if smallest < ranks.size:
        raise RunError(f"the smallest batch, of {smallest} images, has none for some of the {ranks.size} ranks")
    if not config.engine.sync_batch_norm or ranks.size == 1:
        _refuse_a_single_image(config, model, dataset, batch_size)


def _refuse_a_single_image(config: Config, model: nn.Module, dataset: Dataset, batch_size: int) -> None:
    """Raise `RunError` if the model's batch norm would get one value a channel, which has no variance.

    torch would fail in the middle of the run, if the last batch of an epoch or the last micro-batch is one image.
    """
    ranks = dataset.ranks
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
    """Whether the model's batch norm refuses one image. This depends on how many pixels are left at that layer."""
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return False
    device = next(model.parameters()).device
    pixels = () if shape.stem == "none" else (shape.size, shape.size)
    try:
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            copy.deepcopy(model).train()(torch.zeros(1, shape.channels, *pixels, device=device))
    except Exception as error:  # a user's model may not take this input
        return "more than 1 value per channel" in str(error)
    return False


def build_optimizer(
    config: Config, model: nn.Module, steps_per_epoch: int
) -> tuple[GuardedOptimizer, LRScheduler | None]:
    """The optimizer, and its schedule if the configuration has one.

    Raises `UsageError` if the optimizer needs what the run or the network does not have.
    """
    option = config.optim
    epoch = {"steps_per_epoch": steps_per_epoch} if option.takes("steps_per_epoch") else {}
    try:
        optimizer = guarded(_made(Optimizer, option, model.parameters(), **epoch))
    except (RuntimeError, TypeError, ValueError) as error:  # such as Muon for a parameter that is not a matrix
        raise UsageError(f"optim._target_={option.target}: {error}") from error
    schedule = option.schedule
    if schedule is None:
        return optimizer, None
    steps = config.epochs * steps_per_epoch
    total = min(steps, config.max_steps or steps)
    return optimizer, build_schedule(optimizer, total, **schedule.model_dump(exclude_unset=True))


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 units. A CPU without them emulates bf16, many times slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch has none
    return any(capabilities.get(unit, False) for unit in ("amx_bf16", "avx512_bf16", "bf16"))
