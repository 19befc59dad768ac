"""A command continues when standard output or error is closed, full or gone."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from corridor_exp.runs import layout, reading
from corridor_exp.streams import _Steady, steady_streams
from tests.conftest import SMALL

TRAIN = [sys.executable, "-m", "corridor_exp.cli.train"]
SWEEP = [sys.executable, "-m", "corridor_exp.cli.sweep"]
RUN = [*SMALL, "log_every=1", "probe=none", "max_steps=40", "out_dir=out"]


def assert_complete(folder: str) -> None:
    """The file of records has all records and nothing else."""
    run = reading.read(Path(folder))
    assert (run.status, run.faults, len(run.records)) == ("completed", [], 40)


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_run_whose_streams_are_closed_from_the_start_trains_to_its_end(closed: str) -> None:
    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *TRAIN, *RUN], capture_output=True, timeout=90)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert_complete("out")


@pytest.mark.parametrize("command", [TRAIN, [*SWEEP, "seed=0,1", "processes=2"]], ids=["train", "sweep"])
def test_a_pipe_that_is_closed_in_the_middle_ends_no_run(command: list[str]) -> None:
    """As in `corridor-train … 2>&1 | head -1`."""
    process = subprocess.Popen([*command, *RUN], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(90) == 0
    for folder in ["out"] if command == TRAIN else ["out/0", "out/1"]:
        assert_complete(folder)


def test_a_command_that_nobody_reads_ends_in_silence() -> None:
    process = subprocess.Popen([*TRAIN, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_a_full_disk_under_stdout_is_told_and_under_stderr_is_not(monkeypatch) -> None:
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", full)
        with steady_streams():
            print("lost", file=sys.stderr, flush=True)
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        patch.setattr(sys, "stderr", told := io.StringIO())
        with pytest.raises(SystemExit, match="1"), steady_streams():
            print("lost")
    assert told.getvalue() == "cannot write standard output: No space left on device\n"


def test_a_terminal_that_knows_ascii_alone_gets_escapes(monkeypatch) -> None:
    terminal = io.TextIOWrapper(written := io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    with steady_streams():
        print("‖Hg‖ of \udcff")
    assert written.getvalue() == b"\\u2016Hg\\u2016 of \\udcff\n"


def test_a_descriptor_that_is_closed_is_not_taken_by_a_file() -> None:
    """Otherwise a library that writes to stderr would write into `records.jsonl`."""
    code = (
        "import sys; from pathlib import Path\n"
        "from corridor_exp.runs.records import RecordWriter; from corridor_exp.streams import steady_streams\n"
        "with steady_streams(): sys.exit(RecordWriter(Path()).file.fileno())"
    )
    done = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code])
    assert done.returncode > 2
    assert os.path.getsize(layout.RECORDS_FILE) == 0


def test_a_closed_pipe_behind_an_ascii_stream_raises_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = open(writing, "w", encoding="ascii", buffering=1)  # noqa: SIM115
    assert _Steady(stream).write("θ\n") == 2
    with suppress(OSError):
        stream.close()
