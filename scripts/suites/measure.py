"""How two things are timed beside each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

Ratios = dict[str, float]


def interleaved(tasks: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The minimum seconds of each task, which take turns so that a slow minute of the machine hits all alike."""
    for task in tasks.values():
        task()
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(f"  {name:<34} min {min(values) * 1e3:10.2f} ms   median {statistics.median(values) * 1e3:10.2f} ms")
    return {name: min(values) for name, values in seconds.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """For ours; a worker of the DataLoader has one anyhow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
