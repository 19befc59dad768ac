"""Several ranks of one run as processes of this machine, forked from one that has torch loaded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import nn

from corridor_exp.cli.train import main
from corridor_exp.datasets.resident import Arrays, Resident
from corridor_exp.engine.loop import Engine, Plan
from corridor_exp.objective import Objective
from corridor_exp.objective import ranks as distributed
from corridor_exp.objective.batches import DataShape
from corridor_exp.objective.ranks import Ranks
from corridor_exp.optim import CLR, CLRMomentum
from corridor_exp.probes import Corridor
from corridor_exp.signals import StopSignals
from corridor_exp.sweeps.local import LIBRARIES
from tests.conftest import small_network

MLP = ["dataset=digits", "model=mlp", "model.width=16", "logger=jsonl", "dataset.train_size=200", "batch_size=50"]


def _rank(rank: int, size: int, port: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    for number in StopSignals.NUMBERS:  # where a sweep has used the fork server before, it ignores them
        signal.signal(number, signal.SIG_DFL)
    sys.stderr = open(f"rank{rank}.txt", "a", buffering=1)  # noqa: SIM115
    torch.set_num_threads(1)
    function(*args)


def started(size: int, function: Callable[..., Any], *args: Any) -> list[BaseProcess]:
    """`function(*args)` in `size` processes, as torchrun would start them; each tells in `rank<k>.txt`."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES, "corridor_exp.config.compose", "tests.objective.ranks"])
    processes = [context.Process(target=_rank, args=(rank, size, port, function, args)) for rank in range(size)]
    for process in processes:
        process.start()
    return processes


def exit_codes(processes: list[BaseProcess], seconds: float = 60.0) -> list[int | None]:
    """The exit code of each process, None for one that has not ended in time; it is killed, or it would run on."""
    for process in processes:
        process.join(seconds)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def train(*argv: str) -> None:
    """`corridor-train`, as one of the ranks."""
    sys.argv = ["corridor-train"]
    main(list(argv))


def said(rank: int) -> str:
    return Path(f"rank{rank}.txt").read_text()


def small_engine(ranks: Ranks, micro_batch: int | None = None, sharded: bool = False, optim: str = "clr") -> Engine:
    """A convolutional network in float64, 40 images in batches of 14, 14 and 12, CLR and a look at every step."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 1, 5, 5, generator=generator, dtype=torch.float64).numpy()
    y = torch.randint(0, 3, (40,), generator=generator).numpy()
    shared = {"device": torch.device("cpu"), "seed": 0, "drop_last": False}
    data = Resident(
        Arrays(x, y), Arrays(x[:9], y[:9]), DataShape(1, 5, 3, "none"), nn.functional.cross_entropy, **shared
    )
    data.ranks = ranks
    model = small_network()
    if sharded:
        distributed.shard(model)
    objective = Objective(model, micro_batch=micro_batch, ranks=ranks)
    optimizer = OPTIMIZERS[optim](model.parameters())
    plan = Plan(epochs=4, batch_size=14, log_every=1, probe_every=1)
    return Engine(objective, data, optimizer, plan, probes=() if sharded or optim != "clr" else [Corridor()])


OPTIMIZERS = {
    "clr": lambda params: CLR(params, step_cap=1.0),
    "clr_momentum": lambda params: CLRMomentum(params, step_cap=0.5),
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "adam": lambda params: torch.optim.Adam(params, lr=0.01),
}
