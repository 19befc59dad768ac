from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.cli.sweeps import COMMAND


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`started("seed=0", …)` starts the command in a process group of its own, which does not outlive the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*argv: str, command: list[str] = COMMAND) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*command, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        process.communicate()
