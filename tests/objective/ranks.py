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

from corridor_exp.cli.train import main
from corridor_exp.signals import StopSignals
from corridor_exp.sweeps.local import LIBRARIES


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
