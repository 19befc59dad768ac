"""Ours beside the peer, measured alternately in one run: `python scripts/benchmark.py hg [--repeats N]`.

Suites: `step` an optimizer's step on ResNet-18's parameters; `hg` E, g and Hg together, and a look without Hg; `loop`
the training loop against a hand-written one; `data` batches against torchvision's; `startup` commands against `import
hydra`; `memory` a large batch in micro-batches against one micro-batch, and a plain run against one that gives memory
back at once; `many` sweeps and reports; `all` of these. Apart from them: `loop-bf16`, and `compile` for compiled
networks against plain ones. Each prints a table (minimum and median over interleaved repeats) and, as the last line,
{"suite": ..., "ratios": {name: ratio of minima}, "worst": name}. A name that ends in `seconds` or `gb` is no ratio.
`growth` has no targets: it measures how cost grows, and draws docs/figures/growth.png. Peers come with the extra
[bench].
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from suites.curvature import hg
from suites.data import data
from suites.growth import growth
from suites.many import many
from suites.measure import Ratios
from suites.process import memory, startup
from suites.training import compiled, digits_loop, haiku, loop, step

SUITES: dict[str, Callable[[int | None], Ratios]] = {
    "step": step,
    "hg": hg,
    "loop": lambda repeats: {**loop(repeats), **haiku(repeats), **digits_loop(repeats)},
    "data": data,
    "startup": startup,
    "memory": memory,
    "many": many,
}
# Not in `all`: many CPUs emulate bf16, and not every machine has a compiler.
APART: dict[str, Callable[[int | None], Ratios]] = {
    "loop-bf16": lambda repeats: loop(repeats, "bf16"),
    "compile": compiled,
}
PICTURE = Path(__file__).parents[1] / "docs" / "figures" / "growth.png"
AT_MOST = {
    "clr_vs_sgd": 1.7,
    "clr_vs_alig": 1.0,
    "hg_vs_gradient": 3.3,
    "hg_vs_curvlinops": 0.60,
    "look_vs_gradient": 1.45,
    "startup_help": 3.0,
    "startup_bad_key": 2.5,
    "startup_completion": 2.5,
    "startup_optim": 1.03,
    "memory_micro_batches": 1.15,
    "memory_run": 1.1,
    "sweep_12": 1.3,
    "freeze_300_seconds": 5.0,
    "report_500_seconds": 4.0,
    "report_million_seconds": 8.0,
    "report_million_gb": 0.25,
}
AT_LEAST = {
    "loop_fp32": 0.95,
    "loop_bf16": 0.95,
    "loop_haiku": 0.98,
    "loop_digits": 0.85,
    "compile_mlp": 1.0,
    "compile_haiku": 1.0,
    "data_cifar": 8.0,
    "data_imagenet": 1.9,
    "data_imagenet_64": 3.0,
}


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
    parser.add_argument("suite", choices=[*SUITES, *APART, "all", "growth"])
    parser.add_argument("--repeats", type=int, help="interleaved repeats (default: each suite's own)")
    args = parser.parse_args()
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads, ", end="")
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA")
    if args.suite == "growth":
        return growth(PICTURE)
    ratios: Ratios = {}
    for name, suite in SUITES.items() if args.suite == "all" else [(args.suite, {**SUITES, **APART}[args.suite])]:
        print(f"{name}:", flush=True)
        ratios |= suite(args.repeats)
    print("against the targets:")
    worst = report(ratios)
    print(f"worst: {worst}")
    print(json.dumps({"suite": args.suite, "ratios": {k: round(v, 4) for k, v in ratios.items()}, "worst": worst}))


if __name__ == "__main__":
    main()
