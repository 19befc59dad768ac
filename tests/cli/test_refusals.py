"""What `corridor-train` refuses before it writes anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., int]


def test_a_strangers_files_are_not_taken_for_a_run(digits_run: Run, capsys, tmp_path) -> None:
    (tmp_path / "config.yaml").write_text("my: precious\n")
    assert digits_run("epochs=1", "out_dir=.") == 2
    assert "holds a config.yaml that no run wrote" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir() if file.name != "cache"] == ["config.yaml"]


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        ("out_dir='https://user:hunter2pw@host/p'", "no address"),
        ("fork_from='s3://bucket/p'", "no address"),
        ("logger.wandb.entity=user:hunter2pw@host", "without a login"),
        ('out_dir="odd\udcff"', "must be UTF-8"),
        (f"out_dir={'n' * 300}", "the name is too long"),
    ],
)
def test_a_folder_is_no_address_and_an_account_no_login(
    corridor_train: Run, capsys, tmp_path, argument: str, why: str
) -> None:
    assert corridor_train("dataset=digits", "model=mlp", "logger=wandb", argument) == 2
    err = capsys.readouterr().err
    assert why in err
    assert "hunter2pw" not in err
    assert not [file for file in tmp_path.iterdir() if file.name != "cache"]


def test_a_data_set_is_in_no_address_and_a_target_takes_its_keys(corridor_train: Run, capsys) -> None:
    root = "dataset.root='https://user:hunter2pw@host/cifar'"
    assert corridor_train("dataset=cifar10", "model=mlp", "logger=jsonl", root, "out_dir=out") == 1
    assert not Path("https:").exists()
    err = capsys.readouterr().err
    assert "must be a folder of this machine" in err
    assert "hunter2pw" not in err
    assert corridor_train("dataset=digits", "model=mlp", "model._target_=torchvision.models.resnet18") == 2
    assert "unexpected keyword argument 'width'" in capsys.readouterr().err
