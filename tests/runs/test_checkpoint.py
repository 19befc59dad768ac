import os
import pickle
import threading
from collections.abc import Iterator

import pytest
import torch

from corridor_exp.errors import RunError
from corridor_exp.runs import checkpoint
from tests.conftest import SmallDisk


@pytest.fixture(autouse=True)
def _nothing_is_passed_over(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every checkpoint is taken, but in the tests that look at what is logged."""
    watched = "caplog" in request.fixturenames
    caplog = request.getfixturevalue("caplog")
    yield
    assert watched or not caplog.get_records("call")


def save(directory, step: int, keep: int = 9):
    return checkpoint.save(directory, step, {"step": step, "weights": torch.full((4,), float(step))}, keep)


def test_the_newest_comes_back_and_the_oldest_go(tmp_path) -> None:
    for step in (5, 50, 500):
        save(tmp_path, step, keep=2)
    assert checkpoint.load_newest(tmp_path)["step"] == 500
    assert len(list(tmp_path.iterdir())) == 2


def test_a_step_saved_again_replaces_itself(tmp_path) -> None:
    save(tmp_path, 3)
    checkpoint.save(tmp_path, 3, {"step": 3, "weights": torch.ones(1)}, keep=9)
    assert len(list(tmp_path.iterdir())) == 1
    assert checkpoint.load_newest(tmp_path)["weights"].tolist() == [1]


def test_none_where_there_is_none(tmp_path) -> None:
    assert checkpoint.load_newest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("damage", ["truncate", "flip one bit", "empty"])
def test_row_3_a_damaged_file_is_named_and_the_one_before_it_taken(tmp_path, caplog, damage: str) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    content = bytearray(newest.read_bytes())
    if damage == "flip one bit":
        content[len(content) // 2] ^= 1
    newest.write_bytes({"truncate": content[:-100], "flip one bit": content, "empty": b""}[damage])
    assert checkpoint.load_newest(tmp_path)["step"] == 1
    assert newest.name in caplog.messages[0]


def test_row_3_a_file_that_cannot_be_read_is_passed_over_too(tmp_path, caplog) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    newest.unlink()
    newest.symlink_to(newest)
    assert checkpoint.load_newest(tmp_path)["step"] == 1
    assert newest.name in caplog.messages[0]


def test_what_a_kill_left_behind_is_removed(tmp_path) -> None:
    save(tmp_path, 1)
    leftover = tmp_path / ".step_000000002.0123456789abcdef.pt.tmp"
    leftover.write_bytes(b"half")
    assert checkpoint.load_newest(tmp_path)["step"] == 1
    assert not leftover.exists()


def test_row_16_a_pickle_that_would_run_code_is_refused(tmp_path) -> None:
    class Malicious:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/owned",)

    content = pickle.dumps(Malicious(), protocol=2)
    (tmp_path / f"step_000000001.{checkpoint._digest(content)}.pt").write_bytes(content)
    with pytest.raises(RunError, match="refused"):
        checkpoint.load_newest(tmp_path)
    assert not (tmp_path / "owned").exists()


def test_row_10_a_full_disk_leaves_the_old_checkpoint_and_says_how_much_was_needed(tmp_path, monkeypatch) -> None:
    save(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"bytes\): No space left"):
        save(tmp_path, 2)
    assert checkpoint.load_newest(tmp_path)["step"] == 1
    assert not list(tmp_path.glob(".*.tmp"))


def test_row_10_on_a_disk_that_is_really_full_the_save_after_the_next_works_again(disk: SmallDisk) -> None:
    save(disk.place, 1)
    disk.fill()
    with pytest.raises(RunError, match="No space left on device; the checkpoints before it are intact"):
        checkpoint.save(disk.place, 2, {"step": 2, "weights": torch.zeros(100_000)}, keep=9)
    assert checkpoint.load_newest(disk.place)["step"] == 1
    disk.free()
    save(disk.place, 3)
    assert checkpoint.load_newest(disk.place)["step"] == 3


def test_a_folder_that_is_gone_is_told_in_one_line(tmp_path) -> None:
    with pytest.raises(RunError, match="No such file or directory; the checkpoints"):
        save(tmp_path / "gone" / "checkpoints", 1)


def test_the_best_is_kept_beside_the_newest_and_is_a_checkpoint_like_any_other(tmp_path) -> None:
    save(tmp_path, 1, keep=1)
    checkpoint.save(tmp_path, 2, {"step": 2}, keep=1, kind="best")
    assert checkpoint.load_newest(tmp_path)["step"] == 2
    save(tmp_path, 3, keep=1)
    assert checkpoint.load_newest(tmp_path)["step"] == 3
    assert checkpoint.load_one(tmp_path, "best")["step"] == 2
    assert checkpoint.load_one(tmp_path, "3")["step"] == 3
    checkpoint.save(tmp_path, 4, {"step": 4}, keep=1, kind="best")
    assert [file.name.split(".")[0] for file in sorted(tmp_path.iterdir())] == ["best_000000004", "step_000000003"]


def test_row_3_a_damaged_file_never_takes_the_place_of_a_good_one(tmp_path) -> None:
    good, newest = save(tmp_path, 650), save(tmp_path, 668)
    newest.write_bytes(b"torn")
    saver = checkpoint.Saver(tmp_path, keep=2, before=lambda: None, began=650)
    assert newest.exists()  # until there is a new one
    saver.save(700, {"step": 700})
    saver.save(750, {"step": 750})
    saver.close()
    assert not newest.exists()
    assert not good.exists()
    assert [state["step"] for state in checkpoint.load_all(tmp_path)] == [750, 700]


def test_row_11_the_best_of_a_course_that_is_gone_goes_too(tmp_path) -> None:
    save(tmp_path, 4)
    checkpoint.save(tmp_path, 8, {"step": 8}, keep=1, kind="best")
    saver = checkpoint.Saver(tmp_path, keep=2, before=lambda: None, began=4)
    saver.save(5, {"step": 5})
    saver.close()
    assert [state["step"] for state in checkpoint.load_all(tmp_path)] == [5, 4]


def test_row_11_a_checkpoint_whose_records_are_lost_is_passed_over_for_one_before_it(tmp_path, caplog) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, {"step": step, "records_bytes": 100 * step}, keep=9)
    assert checkpoint.load_newest(tmp_path, 300)["step"] == 3
    assert checkpoint.load_newest(tmp_path, 299)["step"] == 2
    assert checkpoint.load_newest(tmp_path, 99)["step"] == 3  # as there is no other: the run says what is lost


class Disk:
    """A disk that writes when it is told to, or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goes_on, self.error = threading.Event(), None
        self.write = checkpoint.write_atomically
        monkeypatch.setattr(checkpoint, "write_atomically", self)

    def __call__(self, path, content: bytes) -> None:
        assert self.goes_on.wait(10)
        if self.error:
            raise self.error
        self.write(path, content)


def test_saving_waits_for_no_disk_and_what_is_saved_is_the_state_at_that_moment(tmp_path, monkeypatch) -> None:
    disk, flushed = Disk(monkeypatch), []
    saver = checkpoint.Saver(tmp_path, keep=2, before=lambda: flushed.append(threading.current_thread().name))
    weights = torch.zeros(3)
    saver.save(1, {"step": 1, "weights": weights, "nested": [{"w": weights}, (weights, None)]})  # returns at once
    weights += 1
    saver.raise_error()
    assert not list(tmp_path.glob("step_*"))
    disk.goes_on.set()
    saver.save(2, {"step": 2, "weights": weights})
    saver.close()
    assert flushed == ["checkpoint_0"] * 2
    first, second = sorted(checkpoint.load_all(tmp_path), key=lambda state: state["step"])
    assert first["weights"].tolist() == first["nested"][0]["w"].tolist() == first["nested"][1][0].tolist() == [0] * 3
    assert second["weights"].tolist() == [1] * 3


@pytest.mark.parametrize("call", ["save", "wait", "raise_error"])
def test_what_goes_wrong_in_the_background_is_raised_by_the_next_call(tmp_path, monkeypatch, call: str) -> None:
    disk = Disk(monkeypatch)
    disk.error = OSError(28, "No space left on device")
    saver = checkpoint.Saver(tmp_path, keep=2, before=lambda: None)
    saver.save(1, {"step": 1})
    disk.goes_on.set()
    saver.close()
    with pytest.raises(RunError, match="No space left"):
        saver.save(2, {"step": 2}) if call == "save" else getattr(saver, call)()


def test_behind_which_a_run_has_gone_back_goes_and_takes_no_place(tmp_path) -> None:
    for step in (500, 1000):
        save(tmp_path, step, keep=2)
    (file,) = tmp_path.glob("step_000001000.*")
    file.write_bytes(b"damaged")
    for step in (600, 700):
        save(tmp_path, step, keep=2)
    assert [state["step"] for state in checkpoint.load_all(tmp_path)] == [700, 600]
