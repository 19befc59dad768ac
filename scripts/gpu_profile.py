"""How close training is to what the card can do: images/s, the share of its peak FLOP/s, and where the time goes.

    python scripts/gpu_profile.py [--batch 4096] [--steps 20] [--compile]

The peak is measured on the card: the fastest of ten products of two 8192 × 8192 bf16 matrices. The work of a step is
counted by torch's FlopCounterMode, a multiply-add as two. Images are random; training is ResNet-18 (CIFAR stem) under
CLR in bf16 and channels_last, by the engine, as `corridor-train model=resnet18 optim=clr` runs it. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from corridor_exp.datasets.resident import Arrays, ResidentDataset
from corridor_exp.engine.loop import Engine, Plan
from corridor_exp.models import resnet18
from corridor_exp.objective import Objective
from corridor_exp.optim import CLR


def build(batch_size: int, compiled: bool) -> Engine:
    device = torch.device("cuda")
    pixels = torch.randint(0, 256, (3 * batch_size, 3, 32, 32), dtype=torch.uint8).numpy()
    arrays = Arrays(pixels, torch.arange(len(pixels)).remainder(10).numpy())
    data = ResidentDataset(arrays, arrays, device=device, seed=0, channels_last=True, test_size=10)
    torch.manual_seed(0)
    model = resnet18(data.shape).to(device, memory_format=torch.channels_last)
    forward = torch.compile(model) if compiled else None
    objective = Objective(model, precision=torch.bfloat16, forward=forward)
    return Engine(objective, data, CLR(model.parameters(), step_cap=1.0), Plan(epochs=10**6, batch_size=batch_size))


def train(engine: Engine, steps: int) -> float:
    """Seconds that so many more steps take."""
    engine.plan = Plan(
        epochs=10**6, batch_size=engine.plan.batch_size, max_steps=engine.progress.step + steps, eval_every=10**6
    )
    torch.cuda.synchronize()
    begun = time.perf_counter()
    engine.train()
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def measured_peak() -> float:
    """FLOP/s of the fastest of ten bf16 matrix products."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(10):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        a @ b
        end.record()
        torch.cuda.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3)
    return 2 * 8192**3 / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu_profile: there is no CUDA device here")
    counted = build(args.batch, compiled=False)
    batch = next(iter(counted.dataset.train_batches(0, args.batch)))
    with FlopCounterMode(display=False) as counter:
        counted.objective.backward(batch)
    del counted
    engine = build(args.batch, args.compile)
    train(engine, 10)  # cuDNN chooses its kernels
    seconds = min(train(engine, args.steps) for _ in range(3)) / args.steps
    peak = measured_peak()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        train(engine, 5)
    print(seen.key_averages().table(sort_by="self_cuda_time_total", row_limit=12, max_name_column_width=70))
    result = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "batch": args.batch,
        "compile": args.compile,
        "images_per_second": round(args.batch / seconds),
        "milliseconds_per_step": round(seconds * 1e3, 2),
        "teraflop_per_second": round(counter.get_total_flops() / seconds / 1e12, 1),
        "measured_bf16_peak": round(peak / 1e12, 1),
        "share_of_peak": round(counter.get_total_flops() / seconds / peak, 3),
        "gigabytes": round(torch.cuda.max_memory_allocated() / 1e9, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
