"""A disk that is full, and folders and files that go: told in one line, and gone on with once that can be."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import corridor_exp.engine.run
from corridor_exp.engine.loop import Engine
from corridor_exp.loggers import wandb
from corridor_exp.runs import checkpoint, layout, reading
from corridor_exp.runs.records import read_records
from corridor_exp.sweeps.frozen import Sweep
from tests.conftest import SmallDisk, without_time

Run = Callable[..., int]
SHORT = ["probe=none", "epochs=2", "batch_size=100", "log_every=1"]  # 30 steps
OUT = Path("disk/out")
FULL = "No space left on device"


def told_in_one_line(capsys: pytest.CaptureFixture[str], what: str) -> None:
    err = capsys.readouterr().err
    assert what in err
    assert "Traceback" not in err


def once(owner: object, name: str, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen just before the first call of a function."""
    function = getattr(owner, name)

    def first(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(owner, name, function)
        happens()
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, first)


# ----------------------------------------------------------------------------- a full disk

MOMENTS: dict[str, tuple[object, str]] = {
    "config": (corridor_exp.engine.run, "_run"),
    "first checkpoint": (checkpoint, "save"),
    "summary": (corridor_exp.engine.run, "environment"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_row_10_a_run_whose_disk_is_full_ends_in_one_line_and_goes_on_when_there_is_space(
    digits_run: Run, disk: SmallDisk, monkeypatch, capsys, moment: str
) -> None:
    once(*MOMENTS[moment], monkeypatch, disk.fill)
    assert digits_run(*SHORT, "checkpoint.every=10", f"out_dir={OUT}") == 1
    told_in_one_line(capsys, FULL)
    assert reading.read_summary(OUT) == {}
    disk.free()
    assert digits_run(*SHORT, "checkpoint.every=10", f"out_dir={OUT}") == 0
    assert digits_run(*SHORT, "checkpoint.every=10", "out_dir=whole") == 0
    written, whole = reading.read(OUT), reading.read(Path("whole"))
    assert (written.status, written.faults) == ("completed", [])
    assert without_time(written.records) == without_time(whole.records)


def test_row_11_a_sweep_whose_disk_is_full_says_so_and_is_frozen_when_there_is_space(
    corridor_sweep: Run, disk: SmallDisk, monkeypatch, capsys
) -> None:
    argv = ["dataset=digits", "model=mlp", "logger=jsonl", *SHORT, "seed=0,1", f"out_dir={OUT}"]
    once(Sweep, "freeze", monkeypatch, disk.fill)
    assert corridor_sweep(*argv) == 1
    err = capsys.readouterr().err
    assert FULL in err
    assert err.count("\n") == 1
    assert Sweep.open(OUT) is None
    disk.free()
    assert corridor_sweep(*argv) == 0


@pytest.mark.parametrize("left", ["", " ", "\0\0"])
def test_row_13_an_id_of_wandb_that_a_crash_has_emptied_is_made_anew(tmp_path, left: str) -> None:
    file = tmp_path / layout.WANDB_ID_FILE
    file.write_text(left)
    new = wandb._run_id(file)
    assert len(new) == 12
    assert wandb._run_id(file) == file.read_text() == new


def test_row_13_a_full_disk_leaves_no_empty_id_of_wandb(disk: SmallDisk) -> None:
    disk.fill()
    with pytest.raises(Exception, match=FULL):
        wandb._run_id(disk.place / layout.WANDB_ID_FILE)
    assert list(disk.place.iterdir()) == [disk.filler]


# --------------------------------------------------------------------- what is deleted meanwhile


def delete_records() -> None:
    Path("out", layout.RECORDS_FILE).unlink()


def cut_records() -> None:
    with open(Path("out", layout.RECORDS_FILE), "r+b") as file:
        file.truncate(200)


def delete_run() -> None:
    shutil.rmtree("out")


def delete_checkpoints() -> None:
    """Those of steps 8 and 12, once they are written and the one of step 4 is dropped."""
    folder, deadline = Path("out", layout.CHECKPOINTS), time.monotonic() + 60
    while [int(path.name[5:14]) for path in sorted(folder.iterdir()) if path.suffix == ".pt"] != [8, 12]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shutil.rmtree(folder)


@pytest.mark.parametrize("damage", [delete_records, cut_records, delete_run])
@pytest.mark.parametrize("moment", ["middle", "end"])
def test_row_11_records_that_go_during_a_run_are_noticed_and_it_is_not_completed(
    digits_run: Run, monkeypatch, capsys, damage: Callable[[], None], moment: str
) -> None:
    once(Engine, *(("evaluate",) if moment == "middle" else ("_is_best",)), monkeypatch, damage)
    epochs = "epochs=2" if moment == "middle" else "epochs=1"  # after an epoch's last record nothing is written
    assert digits_run(*SHORT, epochs, "out_dir=out") == 1
    err = capsys.readouterr().err
    assert "choose another out_dir" in err
    assert not [words for words in ("Traceback", "tries again", "nothing that was saved is lost") if words in err]
    if damage is not delete_run:
        assert reading.read_summary(Path("out"))["status"] == "failed"
    else:
        assert not Path("out").exists()


def test_row_11_a_last_line_that_is_cut_after_the_last_save_is_dropped_and_trained_again(
    digits_run: Run, capsys
) -> None:
    assert digits_run(*SHORT, "out_dir=whole") == 0
    assert digits_run(*SHORT, "max_steps=20", "checkpoint.every=8", "out_dir=out") == 0
    with open(Path("out", layout.RECORDS_FILE), "r+b") as file:
        file.truncate(Path("out", layout.RECORDS_FILE).stat().st_size - 10)
    assert digits_run(*SHORT, "checkpoint.every=8", "resume.override=true", "out_dir=out") == 0
    assert "records are newer than the checkpoint: dropped, and trained again" in capsys.readouterr().err
    whole, again = (without_time(list(read_records(Path(place)))) for place in ("whole", "out"))
    assert again == whole


def test_row_10_checkpoints_that_go_during_a_run_are_saved_again(digits_run: Run, monkeypatch) -> None:
    once(Engine, "_is_best", monkeypatch, delete_checkpoints)
    assert digits_run(*SHORT, "checkpoint.every=4", "out_dir=out") == 0
    assert checkpoint.load_newest(Path("out", layout.CHECKPOINTS))


def test_row_22_a_run_whose_config_is_gone_is_refused_in_one_line(digits_run: Run, capsys) -> None:
    assert digits_run(*SHORT, "out_dir=out") == 0
    Path("out", layout.CONFIG_FILE).unlink()
    capsys.readouterr()
    assert digits_run(*SHORT, "out_dir=out") == 2
    err = capsys.readouterr().err
    assert "no config.yaml; choose another out_dir" in err
    assert err.count("\n") == 1
    assert digits_run(*SHORT, "out_dir=out", "resume.override=true") == 0


def test_row_21_one_runs_misfortune_never_ends_a_sweep(corridor_sweep: Run, monkeypatch, capsys) -> None:
    """Folders that are deleted, damaged or taken by a file between freezing and running."""
    argv = ["dataset=digits", "model=mlp", "logger=jsonl", *SHORT, "seed=range(6)", "processes=2", "out_dir=out"]
    with monkeypatch.context() as frozen_only:
        frozen_only.setattr("corridor_exp.cli.sweep.run", lambda *_: 0)
        assert corridor_sweep(*argv) == 0
    shutil.rmtree("out/0")
    Path("out/1/config.yaml").write_text("a: [")
    Path("out/2/log.txt").mkdir()
    shutil.rmtree("out/3")
    Path("out/3").touch()
    Path("out/5/config.yaml").unlink()
    capsys.readouterr()
    assert corridor_sweep(*argv) == 1
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert reading.read(Path("out/0")).status == reading.read(Path("out/4")).status == "completed"
    assert "4 of 6 runs failed, diverged or were lost" in out
    for remark in ("no config.yaml", "line 2 is no YAML", "log.txt is not a regular file", "Not a directory"):
        assert remark in out
    assert corridor_sweep("out_dir=out", "--status") == 0
    assert "2 completed" in capsys.readouterr().out


def test_a_sweep_whose_owner_cannot_be_told_is_not_stopped_by_guesswork(tmp_path) -> None:
    from corridor_exp.errors import UsageError
    from corridor_exp.sweeps.frozen import only_one, owner

    with only_one(tmp_path):
        (tmp_path / layout.SWEEP_OWNER_FILE).write_text("")
        with pytest.raises(UsageError, match="stop it by hand"):
            owner(tmp_path)
