"""Fixtures and helpers for several tests: commands that run in this process, small networks and batches."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from corridor_exp.cli import sweep, tune
from corridor_exp.cli.train import main
from corridor_exp.config.compose import compose_jobs
from corridor_exp.engine.build import build_engine
from corridor_exp.engine.loop import Engine
from corridor_exp.objective import Batch
from corridor_exp.runs.records import Record, read_records
from corridor_exp.signals import StopSignals

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
os.environ.setdefault("OMP_NUM_THREADS", "2")
# At import submitit configures logging, which closes absl's handler (from jax), which closes its stream. Under capsys
# that stream belongs to pytest.
os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")

OF_OTHERS = re.compile(  # proxies, and launchers of ranks
    r"(?i)https?_proxy|all_proxy|RANK|WORLD_SIZE|MASTER_(ADDR|PORT)|LOCAL_RANK|SLURM_(JOB_ID|NTASKS|PROCID|LOCALID|STEP_\w+)"
)

for number in StopSignals.NUMBERS:  # in the background or under nohup some are ignored
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def _quiet_and_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in its own folder, without a network mirror and without the user's cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in filter(OF_OTHERS.fullmatch, list(os.environ)):
        monkeypatch.delenv(name)


def exit_code(main: Callable[[list[str]], None], argv: Iterable[object]) -> int:
    """Run a command in this process and return its exit code."""
    try:
        main([str(word) for word in argv])
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


@pytest.fixture
def corridor_train(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`corridor_train("optim=sgd", …)` runs the command in this process and returns its exit code."""

    def command(*argv: str) -> int:
        monkeypatch.setattr("sys.argv", ["corridor-train"])
        return exit_code(main, argv)

    return command


@pytest.fixture
def digits_run(corridor_train: Callable[..., int]) -> Callable[..., int]:
    """Like `corridor_train`, on `digits` with a small network and no mirror."""

    def command(*argv: str) -> int:
        return corridor_train("dataset=digits", "model=mlp", "model.width=16", "logger=jsonl", *argv)

    return command


@pytest.fixture
def corridor_sweep() -> Callable[..., int]:
    """`corridor_sweep("seed=0,1", …)` runs the command in this process and returns its exit code."""

    def command(*argv: str) -> int:
        return exit_code(sweep.main, argv)

    return command


@pytest.fixture
def corridor_tune() -> Callable[..., int]:
    """`corridor_tune("optim.lr=0.1,1", …)` runs the command in this process and returns its exit code."""

    def command(*argv: str) -> int:
        return exit_code(tune.main, argv)

    return command


class SmallDisk:
    """A real file system of 1 MB."""

    def __init__(self, place: Path) -> None:
        self.place, self.filler = place, place / "filler"

    def fill(self) -> None:
        with suppress(OSError), open(self.filler, "wb", buffering=0) as file:
            while file.write(bytes(1 << 16)):
                pass

    def free(self) -> None:
        self.filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk, mounted at `disk`. Only root can mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield SmallDisk(place)
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real images are not here: {SHARED_DATA} is missing")
    return SHARED_DATA


def unpack_cifar10(shared_data: Path, folder: Path, prefix: str = "00") -> None:
    """Unpack the images whose number begins with `prefix`. By default: the first hundred of each class and split."""
    with tarfile.open(shared_data / "cifar10-jpeg.tar.xz") as archive:
        members = [m for m in archive if f"/{prefix}" in m.name or m.isdir()]
        archive.extractall(folder, members)


def unpack_imagenet(shared_data: Path, folder: Path) -> None:
    with tarfile.open(shared_data / "imagenet-sample.tar") as archive:
        archive.extractall(folder)


def small_network(norm: str = "none", activation: type[nn.Module] = nn.Tanh, seed: int = 0) -> nn.Module:
    """A convolution, a norm layer, an activation and a linear layer, in float64: 5 × 5 images, 3 classes."""
    torch.manual_seed(seed)
    norms = {"none": nn.Identity(), "batch": nn.BatchNorm2d(2), "group": nn.GroupNorm(1, 2)}
    layers = [nn.Conv2d(1, 2, 3), norms[norm], activation(), nn.Flatten(), nn.Linear(18, 3)]
    return nn.Sequential(*layers).double()


def small_batch(size: int = 12, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 1, 5, 5, generator=generator, dtype=torch.float64)
    return Batch(x, torch.randint(0, 3, (size,), generator=generator))


class Surface(nn.Module):
    """A network whose output is the loss surface E(θ): `Objective(Surface(θ, E), loss=mean)` measures E."""

    def __init__(self, theta: torch.Tensor, E: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta.clone())
        self.E = E

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.E(self.theta).expand(len(x))


def mean(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return outputs.mean()


ANY_BATCH = Batch(torch.zeros(1, 1), torch.zeros(1))


SMALL = ["dataset=digits", "model=mlp", "model.width=16", "logger=jsonl", "dataset.train_size=200", "batch_size=64"]


def engine_of(*overrides: str) -> tuple[Engine, list[Record]]:
    (config,) = compose_jobs([*SMALL, *overrides], multirun=False)
    emitted: list[Record] = []
    return build_engine(config, emit=emitted.append), emitted


def weights(engine: Engine) -> list[torch.Tensor]:
    return [t.clone() for t in engine.objective.model.state_dict().values()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(s, t) for s, t in zip(a, b, strict=True))


def without_time(run: str | Path | Iterable[Record]) -> list[Record]:
    """The records, or those in a run directory, as a repeated run has them."""
    records = read_records(Path(run)) if isinstance(run, str | Path) else run
    return [{key: value for key, value in record.items() if key != "time"} for record in records]


def until(happened: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_resumes_to_the_same_bits(overrides: list[str], cut: int, folder: Path) -> tuple[Engine, list[Record]]:
    """Compare an uninterrupted run with one that stops after `cut` steps and resumes. Returns the uninterrupted run."""
    whole, expected = engine_of(*overrides)
    assert whole.train() == "completed"
    first, emitted = engine_of(*overrides)
    saved: list[dict[str, Any]] = []
    first.save = saved.append
    first.should_stop = lambda: first.progress.step == cut
    assert first.train() == "preempted"
    torch.save(saved[-1], folder / "state.pt")
    torch.manual_seed(999)
    second, more = engine_of(*overrides)
    second.load_state_dict(torch.load(folder / "state.pt", weights_only=True))
    assert second.train() == "completed"
    assert same(weights(second), weights(whole))
    assert without_time(emitted + more) == without_time(expected)
    return whole, expected
