"""An optimizer's step, and the loop around it."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, count, islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from corridor_exp.config.compose import compose_jobs
from corridor_exp.datasets.resident import Arrays, ResidentDataset
from corridor_exp.engine.build import build_engine, computes_bf16
from corridor_exp.engine.loop import Engine, Plan
from corridor_exp.loggers import Mirrors, Wandb
from corridor_exp.models import mlp, resnet18, resnet18_haiku
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import DataShape
from corridor_exp.optim import CLR
from corridor_exp.runs.records import Record, RecordWriter
from suites.measure import Ratios, interleaved, one_thread

CIFAR = DataShape(channels=3, size=32, outputs=10, stem="small")


def device_and_batch(size: int) -> tuple[torch.device, Batch]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    x, y = torch.randn(size, 3, 32, 32, device=device), torch.randint(0, 10, (size,), device=device)
    return device, Batch(x, y)


def step(repeats: int | None) -> Ratios:
    """One update of ResNet-18's 11.2 M parameters, gradients given."""
    from pytorch_optimizer import AliG

    device, batch = device_and_batch(8)
    loss = torch.tensor(1.0, device=device)
    makers = {
        "CLR": lambda p: CLR(p, step_cap=1e-6),
        "torch SGD, foreach": lambda p: torch.optim.SGD(p, lr=1e-6, foreach=True),
        "torch SGD, fused": lambda p: torch.optim.SGD(p, lr=1e-6, fused=True),
        "pytorch_optimizer AliG": lambda p: AliG(p, max_lr=1e-6),
    }
    tasks: dict[str, Callable[[], object]] = {}
    for name, make in makers.items():
        model = resnet18(CIFAR).to(device)
        Objective(model).backward(batch)
        optimizer = make(model.parameters())
        tasks[name] = lambda optimizer=optimizer: optimizer.step(lambda: loss)  # type: ignore[misc]
    best = interleaved(tasks, repeats or 50)
    sgd = min(best["torch SGD, foreach"], best["torch SGD, fused"])
    return {
        "clr_vs_sgd": best["CLR"] / sgd,
        "clr_vs_alig": best["CLR"] / best["pytorch_optimizer AliG"],
    }


def loop(repeats: int | None, precision: str = "fp32") -> Ratios:
    """Steps of ResNet-18 (CIFAR stem, batch 128) by the engine and by a hand-written loop on the same batches."""
    device, _ = device_and_batch(1)
    low = torch.bfloat16 if precision == "bf16" else None
    steps = 1 if low and not computes_bf16(device) else 3  # emulated bf16 takes a minute a step
    ours, hand_written = loops(lambda: resnet18(CIFAR), low, 128, steps, device)
    best = interleaved({f"engine, {precision}": ours, f"hand-written loop, {precision}": hand_written}, repeats or 7)
    return {f"loop_{precision}": best[f"hand-written loop, {precision}"] / best[f"engine, {precision}"]}


@one_thread()
def haiku(repeats: int | None) -> Ratios:
    """Steps of ResNet-18 with Haiku's stem (batch 512, one core), in bf16 where the device has units for it.

    Printed are images/s too, and the share of the floating-point rate that a large matrix product reaches.
    """
    device, _ = device_and_batch(1)
    low = torch.bfloat16 if computes_bf16(device) else None
    ours, hand_written = loops(lambda: resnet18_haiku(CIFAR), low, 512, 2, device)
    factors = torch.randn(2, 2048, 2048, device=device, dtype=low or torch.float32)
    tasks = {"engine, Haiku's stem": ours, "hand-written loop, Haiku's stem": hand_written}
    mine, theirs, product = interleaved(
        {**tasks, "matrix product": lambda: factors[0] @ factors[1]}, repeats or 7
    ).values()
    with FlopCounterMode(display=False) as counter:
        ours()
    rate, peak = counter.get_total_flops() / mine, 2 * 2048**3 / product
    share = f"{rate / 1e9:,.0f} of {peak / 1e9:,.0f} GFLOP/s, {rate / peak:.1%} of the peak"
    print(f"  {2 * 512 / mine:,.0f} images/s, {share}")
    return {"loop_haiku": theirs / mine}


def loops(
    make: Callable[[], nn.Module], low: torch.dtype | None, size: int, steps: int, device: torch.device
) -> tuple[Callable[[], None], Callable[[], None]]:
    """So many steps of a network by the engine, and by a hand-written loop on the same batches."""
    layout = torch.channels_last if low else torch.contiguous_format
    data = pictures(size, low, device)

    def network() -> nn.Module:
        torch.manual_seed(0)
        return make().to(device, memory_format=layout)

    mine, theirs = network(), network()
    ours = by_engine(Objective(mine, precision=low), data, size, steps)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, fused=True)

    def hand_written() -> None:
        for batch in islice(data.train_batches(0, size), steps):
            with torch.autocast(device.type, low, enabled=low is not None):
                loss = F.cross_entropy(theirs(batch.x), batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return ours, hand_written


def pictures(size: int, low: torch.dtype | None, device: torch.device) -> ResidentDataset:
    """Eight batches of random images of 32 pixels."""
    pixels = torch.randint(0, 256, (8 * size, 3, 32, 32), dtype=torch.uint8).numpy()
    arrays = Arrays(pixels, torch.arange(8 * size).remainder(10).numpy())
    return ResidentDataset(arrays, arrays, device=device, seed=0, channels_last=low is not None, test_size=10)


def by_engine(objective: Objective, data: ResidentDataset, size: int, steps: int) -> Callable[[], None]:
    """So many steps by the engine."""
    optimizer = torch.optim.SGD(objective.model.parameters(), lr=0.1, fused=True)
    engine = Engine(objective, data, optimizer, Plan(epochs=10**6, batch_size=size, max_steps=steps, log_every=10))

    def train() -> None:
        engine.progress = type(engine.progress)()
        engine.train()

    return train


@one_thread()
def compiled(repeats: int | None) -> Ratios:
    """Steps of compiled networks beside those of the plain ones, by the engine, on one core: an MLP, ResNet-18."""
    device, _ = device_and_batch(1)
    low = torch.bfloat16 if computes_bf16(device) else None

    def ratio(model: nn.Module, low: torch.dtype | None, size: int, steps: int) -> float:
        model.to(device, memory_format=torch.channels_last if low else torch.contiguous_format)
        data = pictures(size, low, device)
        forwards = {"plain": None, "compiled": torch.compile(model)}
        objectives = {how: Objective(model, precision=low, forward=forward) for how, forward in forwards.items()}
        tasks = {f"{type(model).__name__}, {how}": by_engine(o, data, size, steps) for how, o in objectives.items()}
        best = list(interleaved(tasks, repeats or 7).values())
        return best[0] / best[1]

    return {
        "compile_mlp": ratio(mlp(CIFAR), None, 128, 100),
        "compile_haiku": ratio(resnet18_haiku(CIFAR), low, 512, 2),
    }


def digits_loop(repeats: int | None) -> Ratios:
    """2,000 steps of the digits MLP (batch 128, SGD). The engine also writes a record every 10 steps, and W&B's file.

    They take more than a second, so that each repeat has its share of what W&B is handed once a second.
    """
    keys = "dataset=digits model=mlp optim=sgd optim.lr=0.1 probe=none batch_size=128 log_every=10 epochs=1000000"
    (config,) = compose_jobs([*keys.split(), "eval_every=1000000", "engine.device=cpu"], multirun=False)
    steps = 2000
    outputs: list[Callable[[Record], None]] = []  # opened below
    engine = build_engine(config, emit=lambda record: [take(record) for take in outputs])
    data = engine.dataset
    model = copy.deepcopy(engine.objective.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = chain.from_iterable(data.train_batches(epoch, 128) for epoch in count())

    def ours() -> None:
        engine.plan = replace(engine.plan, max_steps=engine.progress.step + steps, save_every=None)
        engine.train()

    def hand_written() -> None:
        for batch in islice(batches, steps):
            loss = F.cross_entropy(model(batch.x), batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        writer, mirrors = RecordWriter(folder), Mirrors([Wandb()])
        stack.callback(writer.close)
        mirrors.start(folder, config.public(), name="benchmark")
        stack.callback(mirrors.finish, "completed")

        outputs += [writer.write, mirrors.log]
        best = interleaved({"engine, digits MLP": ours, "hand-written loop, digits MLP": hand_written}, repeats or 7)
    return {"loop_digits": best["hand-written loop, digits MLP"] / best["engine, digits MLP"]}
