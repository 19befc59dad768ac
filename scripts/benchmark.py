"""Ours beside the peer, measured alternately in one run: `python scripts/benchmark.py hg [--repeats N]`.

Suites: `step` an optimizer's step on ResNet-18's parameters; `hg` E, g and Hg together; `loop` the training loop
against a hand-written one; `data` batches against torchvision's; `startup` commands against `import hydra`; `memory`
a large batch in micro-batches against one micro-batch; `all` of them. Each prints a table (minimum and median over
interleaved repeats) and, as the last line, {"suite": ..., "ratios": {name: ratio of minima}}. Peers come with the
extra [bench].
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable

import torch
from suites.data import data
from suites.measure import Ratios
from suites.process import memory, startup
from suites.training import digits_loop, hg, loop, step

SUITES: dict[str, Callable[[int | None], Ratios]] = {
    "step": step,
    "hg": hg,
    "loop": lambda repeats: {**loop(repeats), **digits_loop(repeats)},
    "data": data,
    "startup": startup,
    "memory": memory,
}
BF16 = {"loop-bf16": lambda repeats: loop(repeats, "bf16")}  # emulated on many CPUs, so not one of `all`
AT_MOST = {
    "clr_vs_sgd": 1.7,
    "clr_vs_alig": 1.0,
    "hg_vs_gradient": 3.6,
    "hg_vs_curvlinops": 0.62,
    "startup_help": 3.0,
    "startup_bad_key": 2.5,
    "startup_completion": 2.5,
    "memory_micro_batches": 1.15,
}
AT_LEAST = {"loop_fp32": 0.95, "loop_bf16": 0.95, "loop_digits": 0.8, "data_cifar": 8.0, "data_imagenet": 1.8}


def shortfall(name: str, ratio: float) -> float:
    """How many times its target a ratio is on the wrong side: at most 1 where the target is reached."""
    return ratio / AT_MOST[name] if name in AT_MOST else AT_LEAST[name] / ratio


def report(ratios: Ratios) -> str:
    """Print the ratios beside their targets. Returns the name of the worst one."""
    for name, ratio in ratios.items():
        bound = f"≤ {AT_MOST[name]}" if name in AT_MOST else f"≥ {AT_LEAST[name]}"
        print(f"  {name:<34} {ratio:8.3f}   target {bound:<7} {'' if shortfall(name, ratio) <= 1 else 'MISSED'}")
    return max(ratios, key=lambda name: shortfall(name, ratios[name]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=[*SUITES, *BF16, "all"])
    parser.add_argument("--repeats", type=int, help="interleaved repeats (default: each suite's own)")
    args = parser.parse_args()
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads, ", end="")
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA")
    ratios: Ratios = {}
    for name, suite in SUITES.items() if args.suite == "all" else [(args.suite, {**SUITES, **BF16}[args.suite])]:
        print(f"{name}:", flush=True)
        ratios |= suite(args.repeats)
    print("against the targets:")
    worst = report(ratios)
    print(f"worst: {worst}")
    print(json.dumps({"suite": args.suite, "ratios": {k: round(v, 4) for k, v in ratios.items()}, "worst": worst}))


if __name__ == "__main__":
    main()
