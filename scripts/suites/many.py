"""Many runs: a sweep beside the time of its steps, freezing one, and the report of large folders."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from corridor_exp.config.compose import compose_grids
from corridor_exp.config.schema import Config
from corridor_exp.files import to_json, write_json
from corridor_exp.sweeps.request import Request
from corridor_exp.yaml_files import to_yaml
from suites.measure import Ratios
from suites.process import command

DIGITS = ("dataset=digits", "model=mlp")


def many(repeats: int | None) -> Ratios:
    """A sweep of twelve runs, freezing 300, and the report of 500 runs and of one with a million records."""
    return {**sweep(repeats), **freezing(repeats), **report(repeats)}


def sweep(repeats: int | None) -> Ratios:
    """The README's sweep of twelve runs, each with 3,000 steps: wall clock over the sum of what the runs trained."""
    grids = ("seed=0,1,2", "epochs=1000", "eval_every=100", "+", "optim=clr", "+", "optim=sgd", "optim.lr=0.01,0.1,1")
    with tempfile.TemporaryDirectory() as name:
        seconds, _ = command("sweep", *DIGITS, *grids, f"out_dir={name}")
        trained = sum(json.loads(path.read_text())["seconds"] for path in Path(name).glob("*/summary.json"))
    print(f"  a sweep of 12 runs {seconds:.2f} s, of which its runs trained {trained:.2f} s")
    return {"sweep_12": seconds / trained}


def freezing(repeats: int | None) -> Ratios:
    """Seconds to compose, check and freeze 300 runs."""
    best = float("inf")
    for _ in range(repeats or 3):
        with tempfile.TemporaryDirectory() as name:
            start = time.perf_counter()
            request = Request([*DIGITS, "optim=sgd", "optim.lr=range(0.01,1.01,0.01)", "seed=0,1,2"], None, Path(name))
            runs = request.frozen().runs
            best = min(best, time.perf_counter() - start)
    print(f"  freezing {len(runs)} runs {best:.2f} s")
    return {"freeze_300_seconds": best}


def report(repeats: int | None) -> Ratios:
    """Seconds of `corridor-report` over 500 runs with 200 records each, and seconds and GB over one with a million."""
    configs = compose_grids([[*DIGITS, "optim=sgd", "optim.lr=range(0.01,1.01,0.01)", "seed=range(5)"]])
    with _folder(configs, 200) as folder:
        several = min(command("report", str(folder))[0] for _ in range(repeats or 2))
    with _folder(configs[:1], 10**6) as folder:
        one, peak = min(command("report", str(folder)) for _ in range(repeats or 2))
    print(
        f"  a report of {len(configs)} runs {several:.2f} s, of a million records {one:.2f} s and {peak / 1e9:.3f} GB"
    )
    return {"report_500_seconds": several, "report_million_seconds": one, "report_million_gb": peak / 1e9}


@contextmanager
def _folder(configs: list[Config], length: int) -> Iterator[Path]:
    """A folder of runs, each with so many records."""
    with tempfile.TemporaryDirectory() as name:
        for number, config in enumerate(configs):
            folder = Path(name) / str(number)
            folder.mkdir()
            (folder / "config.yaml").write_text(to_yaml(config.public()))
            with open(folder / "records.jsonl", "w") as file:
                file.writelines(f"{to_json(_record(step))}\n" for step in range(length))
            last = _record(length - 1)
            write_json(folder / "summary.json", {"status": "completed", "error": None, "metrics": last, "step": length})
        yield Path(name)


def _record(step: int) -> dict[str, float]:
    where = {"step": step, "epoch": step // 100, "time": step * 0.01}
    return {**where, "train/loss": 2.3 / (step + 1), "train/grad_norm": 1.7 / (step + 2), "train/lr": 0.1 + step}
