"""The line of a sweep that runs: what runs, what has ended, and the time to go."""

from __future__ import annotations

from pathlib import Path

import pytest

from corridor_exp.files import to_json
from corridor_exp.sweeps.local import Progress


def steps_done(folder: Path, steps: int, of: int) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / ".steps").write_text(str(of))
    line = {"step": steps - 1, "epoch": 0, "time": 1.0, "train/loss": 1.0}
    (folder / "records.jsonl").write_text(to_json(line) + "\n")
    return folder


def test_the_line_knows_the_time_to_go_within_the_first_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [tmp_path / str(number) for number in range(2)]
    with Progress(folders) as progress:
        progress.interval = 0.0
        progress.bar.start_t -= 30.0  # it began half a minute ago
        steps_done(folders[0], 250, of=1000)
        progress.show(folders[:1], waiting=1)
        said = capsys.readouterr().err
        assert "12%" in said
        assert "<03:30, 0 of 2 runs ended, running 0" in said  # an eighth took 30 seconds
        progress.show(folders[1:], waiting=0)
        assert "1 of 2 runs ended, running 1" in capsys.readouterr().err
        progress.show([], waiting=0)
    assert capsys.readouterr().err.rstrip().endswith("2 of 2 runs ended")


def test_what_runs_had_done_before_a_sweep_goes_on_is_no_speed(tmp_path: Path, capsys) -> None:
    folder = steps_done(tmp_path / "0", 500, of=1000)
    with Progress([folder]) as progress:
        progress.interval = 0.0
        progress.bar.start_t -= 30.0
        progress.show([steps_done(folder, 750, of=1000)], waiting=0)
    assert "75%" in (said := capsys.readouterr().err)
    assert "<00:30" in said
