"""`corridor-train -m`: a sweep of one grid."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from tests.cli.test_train import Run, files


def test_a_sweep_runs_into_numbered_folders_and_prints_a_table(digits_run: Run, capsys, tmp_path) -> None:
    assert digits_run("-m", "optim=sgd", "optim.lr=0.01,0.1", "max_steps=2", "out_dir=out") == 0
    assert {f.split("/")[0] for f in files(tmp_path / "out")} == {
        "0",
        "1",
        "sweep.json",
        ".sweep.lock",
        ".sweep.owner",
    }
    out = capsys.readouterr().out
    assert [line.split()[:4] for line in out.splitlines()[:3]] == [
        ["run", "optim.lr", "status", "steps"],
        ["0", "0.01", "completed", "2"],
        ["1", "0.1", "completed", "2"],
    ]


def test_a_diverged_run_does_not_stop_the_sweep(digits_run: Run, capsys, tmp_path) -> None:
    argv = ("-m", "optim=sgd", "optim.lr=0.1,1e30,0.2", "epochs=2", "out_dir=out")
    assert digits_run(*argv) == 1
    statuses = [json.loads((tmp_path / f"out/{i}/summary.json").read_text())["status"] for i in range(3)]
    assert statuses == ["completed", "diverged", "completed"]


def test_a_multirun_is_a_sweep_of_one_grid(corridor_sweep: Run, digits_run: Run, capsys) -> None:
    grid = ["optim=glob(s*d)", "seed=range(2)", "max_steps=1", "processes=2"]
    assert digits_run("-m", *grid) == 0
    (folder,) = Path("outputs/digits-mlp").iterdir()
    assert folder.name.startswith("sweep-")
    capsys.readouterr()
    assert corridor_sweep("dataset=digits", "model=mlp", "model.width=16", "logger=jsonl", *grid) == 0
    assert "to do" not in capsys.readouterr().err  # the same folder, where all is done
    assert len(list(folder.glob("*/summary.json"))) == 2


def test_a_multirun_of_one_value_is_one_run_in_folder_0(digits_run: Run) -> None:
    assert digits_run("-m", "seed=3", "max_steps=1", "out_dir='a folder'") == 0
    assert [f.parent.name for f in Path("a folder").glob("*/summary.json")] == ["0"]


def test_a_command_whose_runs_begin_with_those_of_the_folder_extends_the_sweep(digits_run: Run, capsys) -> None:
    common = ("-m", "max_steps=1", "out_dir=out")
    assert digits_run(*common, "seed=0") == 0
    done = Path("out/0/summary.json").stat().st_mtime_ns
    capsys.readouterr()
    assert digits_run(*common, "seed=0,1", "processes=2") == 0
    assert "1 of 2 runs to do" in capsys.readouterr().err
    assert Path("out/0/summary.json").stat().st_mtime_ns == done
    assert digits_run(*common, "seed=1,0") == 2
    err = capsys.readouterr().err
    assert "holds another sweep" in err
    assert "run 0: seed: 0 → 1" in err
    assert digits_run(*common, "seed=0") == 2
    assert "2 runs, here 1" in capsys.readouterr().err


def test_a_sweep_goes_on_with_other_keys_on_request_and_a_failed_run_may_be_corrected(
    digits_run: Run, corridor_train: Run, capsys
) -> None:
    common = ("-m", "seed=0,1", "out_dir=out")
    assert digits_run(*common, "epochs=1") == 0
    assert digits_run(*common, "epochs=2") == 2
    assert digits_run(*common, "epochs=2", "resume.override=true") == 0
    assert [json.loads(Path(f"out/{run}/summary.json").read_text())["epoch"] for run in "01"] == [2, 2]
    nowhere = ("-m", "dataset.download=false", "model.width=8", "logger=jsonl", "max_steps=1", "out_dir=other")
    assert corridor_train(*nowhere, "dataset.root=nowhere") == 1
    assert "1 of 1 runs failed" in capsys.readouterr().out
    assert corridor_train(*nowhere[:1], "dataset=digits", "model=mlp", *nowhere[3:]) == 0


def test_a_run_whose_folder_is_gone_begins_anew(digits_run: Run) -> None:
    common = ("-m", "seed=0,1", "max_steps=2", "out_dir=out")
    assert digits_run(*common) == 0
    shutil.rmtree("out/1")
    assert digits_run(*common) == 0
    assert json.loads(Path("out/1/summary.json").read_text())["status"] == "completed"


def test_a_refused_change_of_a_whole_sweep_leaves_its_runs_as_they_were(digits_run: Run, capsys) -> None:
    """The checkpoints do not fit another width. The refusal is told, and the first command still finds its runs."""
    common = ("-m", "seed=0,1", "epochs=1", "out_dir=out")
    files = [Path("out", run, name) for run in "01" for name in ("config.yaml", "summary.json", "records.jsonl")]
    assert digits_run(*common) == 0
    before = [file.read_bytes() for file in files]
    for _ in range(2):
        capsys.readouterr()
        assert digits_run(*common, "model.width=8", "resume.override=true") == 1
        assert "does not fit this model" in capsys.readouterr().out
        assert [file.read_bytes() for file in files] == before
    assert digits_run(*common) == 0
    assert "2 of 2 runs" not in capsys.readouterr().err
    assert [file.read_bytes() for file in files] == before
    assert digits_run(*common, "model.width=8", "resume.override=true") == 1
    shutil.rmtree("out/1")
    assert digits_run(*common) == 0  # the refused change is forgotten, and what is gone begins anew
    assert [file.read_bytes() for file in files[:3]] == before[:3]
    assert digits_run(*common[:2], "epochs=2", "out_dir=out", "resume.override=true") == 0
    assert [json.loads(Path(f"out/{run}/summary.json").read_text())["epoch"] for run in "01"] == [2, 2]
    assert not list(Path("out").glob("*/config.changed.yaml"))


def test_several_ranks_are_one_run_and_no_sweep(corridor_train: Run, corridor_sweep: Run, capsys, monkeypatch) -> None:
    for key, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "here"}.items():
        monkeypatch.setenv(key, value)
    assert corridor_train("-m", "seed=0,1") == corridor_sweep("seed=0,1") == 2
    assert capsys.readouterr().err.count("several ranks are one run: leave out -m") == 2
    assert not list(Path().iterdir())


def test_a_folder_named_like_an_interpolation_is_a_folder(digits_run: Run, tmp_path, monkeypatch) -> None:
    option = tmp_path / "a${seed}b c/conf/model/mine.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("_target_: corridor_exp.models.mlp\nwidth: 7\ndepth: 1\n")
    monkeypatch.chdir(tmp_path / "a${seed}b c")
    assert digits_run("model=mine", "max_steps=1", "--config-dir", "conf") == 0
    assert len(list(Path().glob("outputs/digits-mine/clr-seed0-*/summary.json"))) == 1
    assert digits_run("-m", "max_steps=1", "out_dir=out") == 0
    assert {f.name for f in Path().iterdir()} == {"conf", "out", "outputs"}
    assert {f.name for f in tmp_path.iterdir() if f.name != "cache"} == {"a${seed}b c"}


def test_a_sweep_that_is_too_large_is_refused_at_once(corridor_train: Run, capsys) -> None:
    begun = time.monotonic()
    for seeds in ("range(0,100000)", "range(0,inf)", "shuffle(range(0,100000000000))"):
        assert corridor_train("-m", f"seed={seeds}") == 2
        assert "more than 10,000 runs" in capsys.readouterr().err
    assert time.monotonic() - begun < 10
