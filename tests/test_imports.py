"""The shape of the house: which room may import which, and how long files and functions are."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "corridor_exp"
MAY_IMPORT = {  # for each room, the other rooms that it may import
    "__init__": {"optim", "probes"},
    "theory": set(),
    "ledger": {"theory", "optim"},
    "objective": {"theory", "errors", "launcher"},
    "optim": {"theory", "objective", "errors"},
    "probes": {"theory", "objective", "runs", "datasets", "errors"},
    "models": {"objective", "errors"},
    "datasets": {"files", "objective", "errors", "signals", "launcher"},
    "loggers": {"files", "runs", "config", "errors"},
    "runs": {"config", "files", "yaml_files", "errors"},
    "config": {"files", "yaml_files", "errors", "launcher"},
    "engine": {
        "config",
        "files",
        "yaml_files",
        "datasets",
        "loggers",
        "models",
        "objective",
        "optim",
        "probes",
        "runs",
        "errors",
    },
    "sweeps": {"config", "engine", "runs", "errors", "files", "yaml_files", "signals", "streams"},
    "figures": {"runs", "theory"},
    "report": {"runs", "config", "files"},
    "errors": set(),
    "files": {"errors"},
    "yaml_files": {"files", "errors"},
    "launcher": set(),
    "signals": set(),
    "streams": {"errors"},
}
ONLY_IN = {  # for each library, the room or the file that may import it
    "hydra": "config",
    "wandb": "loggers/wandb.py",
    "matplotlib": "figures",
    "submitit": "sweeps/slurm.py",
    "optuna": "sweeps/tuning.py",
}


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_no_file_imports_what_its_room_may_not() -> None:
    wrong = []
    for file in sorted(PACKAGE.rglob("*.py")):
        place, names = file.relative_to(PACKAGE), imported(file)
        room = place.with_suffix("").parts[0]
        rooms = {name.split(".")[1] for name in names if name.startswith("corridor_exp.")}
        libraries = {name.split(".")[0] for name in names} & ONLY_IN.keys()
        allowed = rooms if room == "cli" else {room, *MAY_IMPORT.get(room, ())}
        wrong += [(str(place), other) for other in rooms - allowed]
        wrong += [(str(place), library) for library in libraries if not place.is_relative_to(ONLY_IN[library])]
    assert not wrong


def test_the_configuration_is_checked_before_torch_is_imported() -> None:
    code = (
        "import sys; from corridor_exp.config.compose import compose_jobs;"
        "compose_jobs(['optim=sgd', 'optim.lr=0.1,1'], multirun=True);"
        "import corridor_exp.cli.sweep, corridor_exp.sweeps.local, corridor_exp.sweeps.slurm;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'torchvision', 'wandb')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("room", ["optim", "probes"])
def test_optimizers_and_probes_need_torch_alone(room: str) -> None:
    """For people with a training loop of their own."""
    others = (
        "pydantic",
        "yaml",
        "hydra",
        "omegaconf",
        "wandb",
        "matplotlib",
        "sklearn",
        "torchvision",
        "torch._dynamo",
    )
    code = f"import sys, corridor_exp.{room}; print(*(m for m in {others} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_files_and_functions_are_short() -> None:
    root = PACKAGE.parent
    files = [file for folder in ("corridor_exp", "scripts", "tests") for file in (root / folder).rglob("*.py")]
    assert [str(file.relative_to(root)) for file in files if len(file.read_text().splitlines()) > 300] == []
    nodes = (node for file in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(file.read_text())))
    assert statistics.median(n.end_lineno - n.lineno + 1 for n in nodes if isinstance(n, ast.FunctionDef)) < 10


def test_the_package_offers_clr_and_look_and_loads_torch_for_them_alone() -> None:
    code = (
        "import sys, corridor_exp; assert 'torch' not in sys.modules;"
        "from corridor_exp import CLR, look;"
        "assert CLR.__module__ == 'corridor_exp.optim.clr' and callable(look);"
        "sys.exit(hasattr(corridor_exp, 'nonsense'))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
