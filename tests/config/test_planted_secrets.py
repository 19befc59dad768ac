"""Thirteen secrets of every form, and that no artefact of a run or of a sweep has any of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import SMALL

ARGUMENTS = {
    "api_key": "hunter-01-text",
    "token": "31415926502",  # a number
    "private_key": '"-----BEGIN hunter-03-key"',
    "access_key": "hunter-04-access",
    "pwd": "hunter-05-pwd",
    "passphrase": '"hunter 06 phrase"',
    "authToken": "hunter-07-camel",
    "auth_header": '"Bearer hunter-08-header"',
    "credentials": "{user: hunter-09-user, more: {deep: hunter-09-deep}}",
    "secrets": "[hunter-10-first, hunter-10-second]",
    "url": '"https://hunter-11-token@host/data"',
    "query": '"https://host/data?n=1&api_key=hunter-12-query"',
    "login": '"https://me:hunter-13@pass/word@host/data"',
}
PLANTED = [
    b"hunter-01", b"31415926502", b"hunter-03", b"hunter-04", b"hunter-05", b"hunter 06", b"hunter-07", b"hunter-08",
    b"hunter-09", b"hunter-10", b"hunter-11", b"hunter-12", b"hunter-13", b"pass/word",
]  # fmt: skip


@pytest.fixture
def planted(tmp_path: Path) -> list[str]:
    """A run with a mirror that takes all of these and says that it has got them; and W&B."""
    (tmp_path / "conf" / "logger").mkdir(parents=True)
    keys = "".join(f"  {key}: null\n" for key in ARGUMENTS)
    option = f"keeper:\n  _target_: tests.sweeps.keeper.Keeper\n  num_tokens: 7\n  fail: false\n{keys}"
    (tmp_path / "conf" / "logger" / "keeper.yaml").write_text(option)
    argv = [*SMALL, "logger=[keeper,wandb]", "logger.wandb.api_key=hunter-01-wandb", "max_steps=2", "log_every=1"]
    argv += [f"logger.keeper.{key}={value}" for key, value in ARGUMENTS.items()]
    return [*argv, "--config-dir", "conf", "allow_targets=[tests.sweeps]", "out_dir=out"]


def run(command: str, *argv: str) -> tuple[int, bytes]:
    done = subprocess.run(
        [sys.executable, "-m", f"corridor_exp.cli.{command}", *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout


def assert_nowhere(said: bytes) -> None:
    assert [secret for secret in PLANTED if secret in said] == [], said.decode()
    files = [file for file in Path("out").rglob("*") if file.is_file() and not file.is_symlink()]
    for file in files:
        content = file.read_bytes()
        assert [secret for secret in PLANTED if secret in content] == [], file
    kinds = {file.suffix for file in files}
    assert {".pt", ".yaml", ".json", ".jsonl", ".wandb"} <= kinds, kinds


def test_row_18_thirteen_secrets_are_in_no_artefact_of_a_run(planted: list[str]) -> None:
    code, said = run("train", *planted)
    assert code == 0, said.decode()
    assert b"the keeper has 13 secrets" in said  # all have arrived
    code, shown = run("report", "out")
    assert code == 0
    code, printed = run("train", *planted, "--cfg", "job")
    assert code == 0
    assert yaml.safe_load(printed)["logger"]["keeper"]["num_tokens"] == 7
    assert_nowhere(said + shown + printed)
    assert Path("out/report.html").exists()


@pytest.mark.slow
def test_row_18_thirteen_secrets_are_not_in_an_estimate(planted: list[str]) -> None:
    code, said = run("train", *planted, "--estimate")
    assert code == 0, said.decode()
    assert [secret for secret in PLANTED if secret in said] == []


def test_row_18_thirteen_secrets_reach_the_runs_of_a_sweep_and_no_artefact(planted: list[str]) -> None:
    code, said = run("sweep", *planted, "seed=0,1", "processes=2")
    assert code == 0, said.decode()
    for log in ("out/0/log.txt", "out/1/log.txt"):
        assert "the keeper has 13 secrets" in Path(log).read_text()
    code, status = run("sweep", "out_dir=out", "--status")
    assert code == 0
    assert_nowhere(said + status)
    assert yaml.safe_load(Path("out/1/config.yaml").read_text())["logger"]["keeper"]["num_tokens"] == 7


def test_row_18_a_failing_run_that_quotes_its_secrets_tells_none(planted: list[str]) -> None:
    code, said = run("train", *planted, "logger.keeper.fail=true")
    assert code == 1
    code, swept = run("sweep", *planted, "logger.keeper.fail=true", "seed=0,1", "processes=2", "out_dir=out/sweep")
    assert code == 1
    code, status = run("sweep", "out_dir=out/sweep", "--status")
    assert b"RuntimeError: got <redacted>" in said
    assert "RuntimeError: got <redacted>" in Path("out/sweep/1/log.txt").read_text()
    said += swept + status
    assert [secret for secret in PLANTED if secret in said] == [], said.decode()
    for file in Path("out").rglob("*"):
        assert not file.is_file() or [s for s in PLANTED if s in file.read_bytes()] == [], file
