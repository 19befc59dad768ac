"""An optimizer's step, E, g and Hg, and the loop around them."""

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

from corridor_exp.config.compose import compose_jobs
from corridor_exp.datasets.resident import Arrays, ResidentDataset
from corridor_exp.engine.build import build_engine, computes_bf16
from corridor_exp.engine.loop import Engine, Plan
from corridor_exp.loggers import Mirrors, Wandb
from corridor_exp.models import resnet18
from corridor_exp.objective import Batch, Objective
from corridor_exp.objective.batches import DataShape
from corridor_exp.optim import CLR
from corridor_exp.runs.records import Record, RecordWriter
from suites.measure import Ratios, interleaved

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


def hg(repeats: int | None) -> Ratios:
    """E, g and Hg of ResNet-18 (CIFAR stem, batch statistics) on 64 images, beside one gradient and curvlinops."""
    from curvlinops import HessianLinearOperator

    device, batch = device_and_batch(64)
    model = resnet18(CIFAR).to(device)
    objective, params = Objective(model), list(model.parameters())
    # curvlinops cannot move running statistics; without them batch norm still uses those of the batch.
    bare = torch.func.replace_all_batch_norm_modules_(copy.deepcopy(model))

    def gradient() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(F.cross_entropy(model(batch.x), batch.y), params)

    def with_curvlinops() -> object:
        g = gradient()
        H = HessianLinearOperator(
            bare, nn.CrossEntropyLoss(), list(bare.parameters()), [batch], check_deterministic=False
        )
        return H @ list(g)

    tasks = {"one gradient": gradient, "E, g and Hg": lambda: objective.gradient_and_hg(batch)}
    best = interleaved({**tasks, "gradient + curvlinops product": with_curvlinops}, repeats or 7)
    return {
        "hg_vs_gradient": best["E, g and Hg"] / best["one gradient"],
        "hg_vs_curvlinops": best["E, g and Hg"] / best["gradient + curvlinops product"],
    }


def loop(repeats: int | None, precision: str = "fp32") -> Ratios:
    """Steps of ResNet-18 (CIFAR stem, batch 128) by the engine and by a hand-written loop on the same batches."""
    device, _ = device_and_batch(1)
    low = torch.bfloat16 if precision == "bf16" else None
    layout = torch.channels_last if low else torch.contiguous_format
    pixels = torch.randint(0, 256, (1024, 3, 32, 32), dtype=torch.uint8).numpy()
    arrays = Arrays(pixels, torch.arange(1024).remainder(10).numpy())
    data = ResidentDataset(arrays, arrays, device=device, seed=0, channels_last=low is not None, test_size=10)
    steps = 1 if low and not computes_bf16(device) else 3  # emulated bf16 takes a minute a step

    def network() -> nn.Module:
        torch.manual_seed(0)
        return resnet18(CIFAR).to(device, memory_format=layout)

    mine, theirs = network(), network()
    plan = Plan(epochs=10**6, batch_size=128, max_steps=steps, log_every=10)
    engine = Engine(Objective(mine, precision=low), data, torch.optim.SGD(mine.parameters(), lr=0.1, fused=True), plan)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)

    def ours() -> None:
        engine.progress = type(engine.progress)()
        engine.train()

    def hand_written() -> None:
        for batch in islice(data.train_batches(0, 128), steps):
            with torch.autocast(device.type, low, enabled=low is not None):
                loss = F.cross_entropy(theirs(batch.x), batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    best = interleaved({f"engine, {precision}": ours, f"hand-written loop, {precision}": hand_written}, repeats or 7)
    return {f"loop_{precision}": best[f"hand-written loop, {precision}"] / best[f"engine, {precision}"]}


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
