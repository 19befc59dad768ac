"""How cost grows with the batch, the width, the ranks, the micro-batch and the number of runs, drawn."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot

from corridor_exp.engine.build import computes_bf16
from corridor_exp.models import resnet18_haiku
from suites.measure import one_thread
from suites.process import PYTHON, RUN, command
from suites.training import CIFAR, loops

MLP = ("dataset=digits", "model=mlp", "probe=none", "logger=jsonl", "engine.threads=1")
Line = dict[int, float]


def growth(picture: Path) -> None:
    """Measure every panel, print its numbers, and draw them. Takes some five minutes on two quiet cores."""
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(3 * len(PANELS), 2.6), layout="constrained")
    for axis, (where, what, measure, places) in zip(axes, PANELS, strict=True):
        line: Line = {place: measure(place) for place in places}
        print(
            f"  {what} by {where}: " + ", ".join(f"{place:,}: {value:.4g}" for place, value in line.items()), flush=True
        )
        axis.plot(list(line), list(line.values()), marker="o")
        axis.set(xscale="log", xlabel=where, ylabel=what, ylim=(0, None))
        axis.set_xticks(places, [f"{place:,}" for place in places], minor=False)
        axis.set_xticks([], minor=True)
        axis.grid(which="both", alpha=0.3)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=120)
    print(f"  drawn: {picture}")


@one_thread()
def seconds_a_step(batch: int, width: int = 64) -> float:
    """Of ResNet-18 with Haiku's stem by the engine on one core, in bf16 where there are units for it."""
    device = torch.device("cpu")
    low = torch.bfloat16 if computes_bf16(device) else None
    step, _ = loops(lambda: resnet18_haiku(CIFAR, width=width), low, batch, 1, device)
    return min(_seconds(step) for _ in range(4))


def seconds_on_ranks(ranks: int) -> float:
    """A step of the digits MLP, width 1,024, batch 1,500, on so many processes of one thread that talk by gloo."""
    keys = (*MLP, "model.width=1024", "batch_size=full", "max_steps=60", "log_every=1", "eval_every=1000")
    with tempfile.TemporaryDirectory() as folder:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        line = [PYTHON, *launch, "-m", "corridor_exp.cli.train", *keys, f"out_dir={folder}/run"]
        subprocess.run(line, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
        records = [json.loads(text) for text in Path(folder, "run", "records.jsonl").read_text().splitlines()]
    times = [record["time"] for record in records]
    return min(later - earlier for earlier, later in pairwise(times))


def gigabytes(micro_batch: int) -> float:
    """The peak of a run's process on digits of 32 pixels: a ResNet-18 of width 8, full batch."""
    keys = [*(key for key in RUN if not key.startswith(("engine.micro_batch", "max_steps"))), "max_steps=1"]
    with tempfile.TemporaryDirectory() as folder:
        return command("train", *keys, f"engine.micro_batch={micro_batch}", f"out_dir={folder}/run")[1] / 1e9


def seconds_of_a_sweep(runs: int) -> float:
    """Of so many runs of the digits MLP, each with 90 steps, from the command to its table."""
    with tempfile.TemporaryDirectory() as folder:
        return command("sweep", *MLP, f"seed=range({runs})", f"out_dir={folder}")[0]


def _seconds(task: Callable[[], None]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


PANELS: list[tuple[str, str, Callable[[int], float], list[int]]] = [
    ("images a step", "seconds a step", seconds_a_step, [64, 128, 256, 512, 1024]),
    ("width (256 images)", "seconds a step", lambda width: seconds_a_step(256, width), [8, 16, 32, 64, 128]),
    ("ranks", "seconds a step", seconds_on_ranks, [1, 2, 4]),
    ("images of a micro-batch", "GB", gigabytes, [25, 75, 250, 750, 1500]),
    ("runs of a sweep", "seconds", seconds_of_a_sweep, [1, 4, 16]),
]
