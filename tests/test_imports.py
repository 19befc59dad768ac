"""Who may import whom: data flows one way, and torch comes only after the configuration is checked."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "corridor_exp"
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_each_library_has_its_rooms(file: Path) -> None:
    names = imported(file)
    if any(n.split(".")[0] == "hydra" for n in names):
        assert room(file) == "config"
    if any(n.split(".")[0] == "wandb" for n in names):
        assert file == PACKAGE / "loggers" / "wandb.py"
    if any(n.split(".")[0] == "matplotlib" for n in names):
        assert room(file) == "figures"
    if any(n.split(".")[0] == "submitit" for n in names):
        assert file == PACKAGE / "sweeps" / "slurm.py"


MAY_KNOW = {  # a room, and which of the others it may import
    "theory": set(),
    "ledger": {"theory", "optim"},
    "objective": {"errors", "launcher"},
    "optim": {"theory", "objective", "errors"},
    "probes": {"theory", "objective", "runs", "datasets", "errors"},
    "models": {"objective", "errors"},
    "datasets": {"files", "objective", "errors", "signals"},
    "loggers": {"files", "runs", "config", "errors"},
    "runs": {"files", "errors"},
    "config": {"runs", "files", "errors"},
    "engine": {"config", "datasets", "loggers", "models", "objective", "optim", "probes", "runs", "errors"},
    "sweeps": {"cli", "config", "engine", "runs", "errors", "files", "signals", "streams"},
    "figures": {"runs", "config", "theory", "errors"},
    "errors": set(),
    "files": {"errors"},
    "launcher": set(),
    "signals": set(),
    "streams": set(),
}


@pytest.mark.parametrize("file", [f for f in FILES if room(f) in MAY_KNOW], ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_run_one_way(file: Path) -> None:
    ours = {n.split(".")[1] for n in imported(file) if n.startswith("corridor_exp.")}
    assert ours <= MAY_KNOW[room(file)] | {room(file)}


def test_the_configuration_is_checked_before_torch_is_imported() -> None:
    code = (
        "import sys; from corridor_exp.config.compose import compose_jobs;"
        "compose_jobs(['optim=sgd', 'optim.lr=0.1,1'], multirun=True);"
        "import corridor_exp.cli.sweep, corridor_exp.sweeps.local, corridor_exp.sweeps.slurm;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'torchvision', 'wandb')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_optimizers_need_torch_alone() -> None:
    """For people with a training loop of their own."""
    others = ("pydantic", "yaml", "hydra", "omegaconf", "wandb", "matplotlib", "sklearn", "torchvision")
    code = f"import sys, corridor_exp.optim; print(*(m for m in {others} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
