"""A network that kills its process when seed 3 builds it, as long as a file `crash` lies in the working directory."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch

from corridor_exp.models import mlp

__all__ = ["network"]


def network(shape: Any, **options: Any) -> torch.nn.Module:
    if torch.initial_seed() == 3 and Path("crash").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return mlp(shape, **options)
