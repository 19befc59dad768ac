from __future__ import annotations

from pathlib import Path

import pytest

from corridor_exp.config.compose import compose_jobs
from corridor_exp.errors import UsageError
from corridor_exp.runs import layout
from corridor_exp.runs.layout import is_held
from corridor_exp.sweeps import frozen
from corridor_exp.sweeps.frozen import Sweep, only_one, owner, thaw


def test_what_is_thawed_is_what_was_frozen(tmp_path: Path) -> None:
    configs = compose_jobs(["optim=sgd", "optim.lr=0.1,1", "model=mlp"], multirun=True)
    sweep = Sweep.freeze(tmp_path, configs, ["optim=sgd", "optim.lr=0.1,1"])
    assert [thaw(folder) for folder in sweep.folders] == configs
    assert [thaw(folder).public() for folder in sweep.folders] == [config.public() for config in configs]
    assert Sweep.open(tmp_path) == sweep
    assert Sweep.open(tmp_path / "elsewhere") is None


def test_a_freeze_that_was_stopped_is_no_sweep_and_is_done_again(tmp_path: Path, monkeypatch) -> None:
    configs = compose_jobs(["seed=0,1"], multirun=True)
    with monkeypatch.context() as patch:
        patch.setattr(frozen, "asdict", lambda sweep: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Sweep.freeze(tmp_path, configs, [])
    assert Sweep.open(tmp_path) is None
    Sweep.freeze(tmp_path, configs, [])


def test_a_folder_with_other_runs_is_not_overwritten(tmp_path: Path) -> None:
    Sweep.freeze(tmp_path, compose_jobs(["seed=0,1"], multirun=True), [])
    (tmp_path / "1" / "records.jsonl").touch()
    with pytest.raises(UsageError, match="holds another run"):
        Sweep.freeze(tmp_path, compose_jobs(["seed=5,6"], multirun=True), [])
    assert thaw(tmp_path / "0").seed == 0


def test_only_one_sweep_a_folder_and_its_owner_is_known(tmp_path: Path) -> None:
    assert owner(tmp_path) is None
    with only_one(tmp_path):
        assert owner(tmp_path) is not None
        with pytest.raises(UsageError, match="another sweep runs in"), only_one(tmp_path):
            pass
    assert (tmp_path / layout.SWEEP_LOCK_FILE).exists()
    assert not is_held(tmp_path / layout.SWEEP_LOCK_FILE)
    assert owner(tmp_path) is None


def test_a_manifest_may_hold_more_than_this_version_knows(tmp_path: Path) -> None:
    sweep = Sweep.freeze(tmp_path, compose_jobs(["seed=0,1"], multirun=True), [])
    manifest = tmp_path / layout.MANIFEST
    manifest.write_text(manifest.read_text().replace("{", '{"newer": 1,', 1))
    assert Sweep.open(tmp_path) == sweep
