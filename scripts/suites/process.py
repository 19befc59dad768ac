"""What only a process of its own shows: how long a command takes to answer, and how much memory it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from suites.measure import Ratios, interleaved
from suites.peak import peak

PYTHON = sys.executable
TRAIN = [PYTHON, "-m", "corridor_exp.cli.train"]
IMPORTS = ("hydra", "torch", "corridor_exp.optim")
RUN = (
    *("dataset=digits", "dataset.image_size=32", "model=resnet18", "model.width=8", "batch_size=full"),
    *("engine.micro_batch=250", "max_steps=2", "probe=none", "logger=jsonl"),
)
SCRIPTS = Path(__file__).parents[1]
TRIMMING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # glibc gives back at once


def startup(repeats: int | None) -> Ratios:
    """Seconds until a command has answered, beside those of an interpreter that imports Hydra and does nothing.

    And those of an import of the optimizers beside an import of torch.
    """
    line = "corridor-train optim="
    commands = {
        **{f"import {name}": ([PYTHON, "-c", f"import {name}"], 0, "") for name in IMPORTS},
        "--help": ([*TRAIN, "--help"], 0, "Groups"),
        "a bad key": ([*TRAIN, "epoch=3"], 2, "did you mean 'epochs'?"),
        "completion": ([*TRAIN, "-sc", "query=bash"], 0, "optim=clr"),
    }
    environment = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}

    def answer(argv: list[str], code: int, said: str) -> None:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        if done.returncode != code or said not in done.stdout + done.stderr:
            raise SystemExit(f"{argv} did not answer as it should: {done}")

    best = interleaved({name: lambda c=command: answer(*c) for name, command in commands.items()}, repeats or 9)
    torch, optim = best.pop("import torch"), best.pop("import corridor_exp.optim")
    hydra = best.pop("import hydra")
    names = {"--help": "startup_help", "a bad key": "startup_bad_key", "completion": "startup_completion"}
    return {**{names[name]: seconds / hydra for name, seconds in best.items()}, "startup_optim": optim / torch}


def memory(repeats: int | None) -> Ratios:
    """A ResNet-18 of width 8 on a batch of 4,096 in micro-batches of 256, and on one of 256: one step and 16.

    Measured is by how much the peak of the resident set grows over what the process had with its model and its batch,
    where glibc gives back at once what is freed: that is what is in use. By default it keeps a varying part. So a plain
    run, of such a network on digits, is measured under both: the peak of the whole process.
    """
    peaks: dict[str, list[int]] = {}
    for _ in range(repeats or 3):
        for size in (4096, 256):
            code = f"from suites.process import print_peak; print_peak({size})"
            done = subprocess.run(
                [PYTHON, "-c", code], cwd=SCRIPTS, env={**os.environ, **TRIMMING}, capture_output=True, text=True
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            peaks.setdefault(f"batch {size}", []).append(int(done.stdout))
        for name, options in {"a run, with trimming": TRIMMING, "a run": {}}.items():
            with tempfile.TemporaryDirectory() as folder:
                peaks.setdefault(name, []).append(command("train", *RUN, f"out_dir={folder}/run", **options)[1])
    for name, values in peaks.items():
        print(f"  {name:<34} min {min(values) / 2**20:10.1f} MiB  max {max(values) / 2**20:10.1f} MiB")
    return {
        "memory_micro_batches": min(peaks["batch 4096"]) / min(peaks["batch 256"]),
        "memory_run": max(peaks["a run"]) / min(peaks["a run, with trimming"]),
    }


def command(name: str, *arguments: str, **environment: str) -> tuple[float, int]:
    """Seconds and peak resident bytes of one of our commands. Linux only."""
    code = f"import sys, corridor_exp.cli.{name} as cli\nfrom suites.peak import say_peak\nsay_peak(cli.main)"
    start = time.perf_counter()
    done = subprocess.run(
        [PYTHON, "-c", code, *arguments], cwd=SCRIPTS, env={**os.environ, **environment}, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    return seconds, int(done.stdout.split()[-1])


def print_peak(size: int) -> None:
    """The bytes by which 16 micro-batches of 256, in steps of `size` images, raise the peak. Linux only."""
    import torch

    from corridor_exp.models import resnet18
    from corridor_exp.objective import Batch, Objective
    from corridor_exp.objective.batches import DataShape
    from corridor_exp.optim import CLR

    torch.manual_seed(0)
    model = resnet18(DataShape(channels=3, size=32, outputs=10, stem="small"), width=8)
    objective = Objective(model, micro_batch=256)
    optimizer = CLR(model.parameters(), step_cap=0.1)
    batch = Batch(torch.randn(size, 3, 32, 32), torch.arange(size) % 10)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew here
    before = peak()
    for _ in range(16 * 256 // size):
        loss, _ = objective.backward(batch)
        optimizer.step(lambda loss=loss: loss)
    print(peak() - before)
