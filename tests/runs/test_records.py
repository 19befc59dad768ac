import json
import math
import os
import shutil
from collections import deque
from pathlib import Path

import pytest

from corridor_exp.errors import RunError
from corridor_exp.files import to_json
from corridor_exp.runs import layout, reading, records
from tests.conftest import SmallDisk


def test_records_come_back_as_they_were_and_every_line_is_standard_json(tmp_path) -> None:
    written = [{"step": 0, "train/loss": 1.5}, {"step": 1, "train/loss": math.inf, "probe/hg_norm": None}]
    writer = records.RecordWriter(tmp_path)
    for record in written:
        writer.write(record)
    writer.close()
    assert list(records.read_records(tmp_path)) == written
    lines = (tmp_path / layout.RECORDS_FILE).read_text().splitlines()
    assert json.loads(lines[1], parse_constant=pytest.fail)["train/loss"] == "inf"


def test_nan_is_written_as_a_string(tmp_path) -> None:
    writer = records.RecordWriter(tmp_path)
    writer.write({"step": 0, "train/loss": math.nan})
    writer.close()
    assert '"nan"' in (tmp_path / layout.RECORDS_FILE).read_text()
    (record,) = records.read_records(tmp_path)
    assert math.isnan(record["train/loss"])


def test_secants_of_an_older_probe_are_not_read(tmp_path) -> None:
    """Before version 2 they were taken over the whole of CLR's step: other numbers by the same names."""
    older = {"probe/hg_norm": 1.0, "probe/decrease_ratio": 0.5, **dict.fromkeys(records.SECANTS, 1.0)}
    newer = {**older, "probe/version": 2}
    lines = [{"step": 0, **older}, {"step": 1, **newer}]
    (tmp_path / layout.RECORDS_FILE).write_text("".join(to_json(line) + "\n" for line in lines))
    first, second = records.read_records(tmp_path)
    assert first == {"step": 0, "probe/hg_norm": 1.0, "probe/decrease_ratio": 0.5}
    assert second == {"step": 1, **newer}
    for metrics, expected in ((older, {"probe/hg_norm": 1.0, "probe/decrease_ratio": 0.5}), (newer, newer)):
        (tmp_path / layout.SUMMARY_FILE).write_text(json.dumps({"status": "completed", "metrics": metrics}))
        assert reading.read_summary(tmp_path) == {"status": "completed", "metrics": expected}


def test_row_11_a_torn_last_line_is_left_out(tmp_path) -> None:
    (tmp_path / layout.RECORDS_FILE).write_text('{"step": 0}\n{"step": 1, "tra')
    assert list(records.read_records(tmp_path)) == [{"step": 0}]


def test_a_resumed_writer_drops_what_its_checkpoint_does_not_know(tmp_path) -> None:
    writer = records.RecordWriter(tmp_path)
    writer.write({"step": 0})
    known = writer.bytes
    writer.write({"step": 1})
    writer.close()
    resumed = records.RecordWriter(tmp_path, keep_bytes=known)
    assert resumed.bytes == known  # or a save before the next record would keep what is trained again
    resumed.write({"step": 2})
    resumed.close()
    assert [r["step"] for r in records.read_records(tmp_path)] == [0, 2]


def test_lost_records_are_an_error_and_not_a_hole(tmp_path) -> None:
    with pytest.raises(RunError, match="records are lost"):
        records.RecordWriter(tmp_path, keep_bytes=10)


def test_row_11_a_full_disk_is_one_clear_error(tmp_path) -> None:
    (tmp_path / layout.RECORDS_FILE).symlink_to("/dev/full")
    with pytest.raises(RunError, match="No space left"):
        records.RecordWriter(tmp_path).write({"step": 0})


def test_row_11_on_a_full_disk_no_half_line_stays_and_there_is_a_way_on(disk: SmallDisk) -> None:
    writer = records.RecordWriter(disk.place)
    writer.write({"step": -1})  # so that there is room for half a line in what the file has got already
    disk.fill()
    with pytest.raises(RunError, match="No space left"):
        deque(map(writer.write, ({"step": step} for step in range(10_000))))
    writer.close()
    written = list(records.read_records(disk.place))
    assert (disk.place / layout.RECORDS_FILE).stat().st_size == writer.bytes
    assert [record["step"] for record in written] == list(range(-1, len(written) - 1))
    assert len(written) > 1
    disk.free()
    resumed = records.RecordWriter(disk.place, keep_bytes=writer.bytes)
    resumed.write({"step": len(written)})
    assert len(list(records.read_records(disk.place))) == len(written) + 1


@pytest.mark.parametrize("call", ["write", "check", "sync"])
@pytest.mark.parametrize("damage", ["cut", "deleted", "replaced", "folder gone"])
def test_records_that_are_lost_while_a_run_writes_them_are_noticed(tmp_path, damage: str, call: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    writer = records.RecordWriter(folder)
    writer.write({"step": 0})
    if damage == "cut":
        os.truncate(writer.path, writer.bytes - 1)
    elif damage == "folder gone":
        shutil.rmtree(folder)
    else:
        writer.path.rename(folder / "aside")
    if damage == "replaced":
        shutil.copy(folder / "aside", writer.path)
    with pytest.raises(RunError, match="choose another out_dir"):
        writer.write({"step": 1}) if call == "write" else getattr(writer, call)()


def test_every_quantity_of_a_probe_has_the_name_that_the_docs_promise() -> None:
    promised = (Path(__file__).parents[2] / "docs/measuring.md").read_text()
    names = [v for v in vars(records).values() if isinstance(v, str) and v.startswith("probe/")]
    assert len(names) > 20
    assert [name for name in names if name not in promised] == []
