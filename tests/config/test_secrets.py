"""What is a secret, and that it is nowhere but in the environment of the runs that need it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from corridor_exp.cli.sync import main as sync
from corridor_exp.config import secrets
from corridor_exp.config.compose import compose_jobs
from corridor_exp.config.differences import leaves
from corridor_exp.config.options import CONF_DIR
from corridor_exp.config.schema import Config
from corridor_exp.config.secrets import REDACTED, clean, is_secret, redact, redact_argument
from corridor_exp.errors import UsageError
from corridor_exp.report.page import write
from corridor_exp.runs.places import refuse_to_start
from corridor_exp.sweeps.frozen import Sweep, thaw


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What one test has learnt is no secret of the next."""
    monkeypatch.setattr(secrets, "_learnt", set())
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    before = set(os.environ)
    yield
    for name in set(os.environ) - before:
        del os.environ[name]


SECRET_KEYS = """
    api_key apikey API_KEY apiKey x-api-key hub.token token hf_token authToken accessToken access_key accessKeyId
    private_key privateKey secret client_secret AWS_SECRET_ACCESS_KEY password passwd db_password pwd pass passphrase
    credentials credential auth auth_header authorization Authorization bearer cookie signing_key ssh_key
    wandb_key openai_key hf_key github_pat db_pw dsn access_tokens api_tokens
    logger.wandb.api_key logger.mine.credentials.user logger.mine.api_key.0 +logger.mine.pwd ++api_key
""".split()  # noqa: SIM905
PLAIN_KEYS = """
    num_tokens max_tokens tokens tokenizer tokenizer_name token_embedding monkey key keys keyboard author compass
    pat_size pw_kernel pw_norm
    bypass passes public_key dataset.root name optim.lr secretary pathway seed
""".split()  # noqa: SIM905


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_row_18_a_secret_is_known_by_its_key(key: str) -> None:
    assert is_secret(key)
    for value in ("hunter2", 31415926, 3.5, ["hunter2"], {"user": "me", "deep": [{"x": 7}]}):
        assert set(_values(redact({key: value}))) == {REDACTED}
    for nothing in (None, "", True, False):
        assert redact({key: nothing}) == {key: nothing}


@pytest.mark.parametrize("key", PLAIN_KEYS)
def test_what_only_resembles_a_secret_stays(key: str) -> None:
    assert not is_secret(key)
    assert redact({key: "banana", "n": {key: [7]}}) == {key: "banana", "n": {key: [7]}}


def test_no_key_of_ours_is_a_secret_but_wandbs() -> None:
    jobs = [compose_jobs([f"{group}={file.stem}"], False)[0] for group, file in _options()]
    keys = {key for job in jobs for key, _ in leaves(job.public())}
    assert {key for key in keys if is_secret(key)} == {"logger.wandb.api_key"}
    assert [job for job in jobs if REDACTED in str(job.public())] == []


def _options() -> Iterator[tuple[str, Path]]:
    for group in ("dataset", "model", "optim", "probe", "logger", "engine"):
        for file in sorted((CONF_DIR / group).glob("*.yaml")):
            yield group, file


def _values(tree: Any) -> Iterator[Any]:
    for value in tree.values() if isinstance(tree, dict) else tree:
        yield from _values(value) if isinstance(value, dict | list) else [value]


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("https://user:hunter2@host/data", "https://<redacted>@host/data"),
        ("https://hunter2@host/data", "https://<redacted>@host/data"),
        ("s3://user:p@ss/hunter2@host/data", "s3://<redacted>@host/data"),
        ("no https:/user:hunter2@host/x", "no https:/<redacted>@host/x"),  # as a path has it
        ("me:hunter2@db.example", "<redacted>@db.example"),
        ("me:hunter2@10.0.0.7/data", "<redacted>@10.0.0.7/data"),
        ("me:hunter2@[::1]/data", "<redacted>@[::1]/data"),
        ("//me:hunter2@host/data", "//<redacted>@host/data"),
        ("runs/a:b@60", "runs/a:b@60"),
        ("https://host/d?x=1&api_key=hunter2&y=2", "https://host/d?x=1&api_key=<redacted>&y=2"),
        ("https://host/d?X-Amz-Signature=hunter2", "https://host/d?X-Amz-Signature=<redacted>"),
        ('{"api_key": "hunter2", "n": 1}', '{"api_key": <redacted>, "n": 1}'),
        ("Spy(pwd='hunter 2', n=1)", "Spy(pwd=<redacted>, n=1)"),
        ("Authorization is Bearer hunter2hunter2", "Authorization is Bearer <redacted>"),
        ("https://host:8080/data", "https://host:8080/data"),
        ("run@600", "run@600"),
        ("a@b", "a@b"),
        ("num_tokens=7 and api_key=null", "num_tokens=7 and api_key=null"),
        ("Authorization: Basic aHVudGVyMjo=", "Authorization: Basic <redacted>"),
        ("https://host/v1?key=hunter2&n=3", "https://host/v1?key=<redacted>&n=3"),
        ("a basic configuration, key=value", "a basic configuration, key=value"),
        ("logger.wandb.api_key: should be a valid string", "logger.wandb.api_key: should be a valid string"),
    ],
)
def test_row_18_a_secret_is_known_by_its_form(text: str, public: str) -> None:
    assert redact(text) == public
    assert redact(public) == public
    assert redact({"root": [text]}) == {"root": [public]}


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("logger.mine.pwd=a b=c", "logger.mine.pwd=<redacted>"),
        ("+logger.mine.authToken='hunter2,x'", "+logger.mine.authToken=<redacted>"),
        ("logger.mine.credentials={user: me, key: hunter2}", "logger.mine.credentials=<redacted>"),
        ("logger.mine.o={api_key: hunter2, n: 1}", "logger.mine.o={api_key: <redacted>, n: 1}"),
        ("logger.mine.o={n:1,api_key:[hunter2,hunter3]}", "logger.mine.o={n:1,api_key:<redacted>}"),
        ("dataset.root=https://host/d?api_key=hunter2", "dataset.root=https://host/d?api_key=<redacted>"),
        ("--api-key=hunter2", "--api-key=<redacted>"),
        ("optim.lr=0.1,1", "optim.lr=0.1,1"),
        ("logger.wandb.api_key=null", "logger.wandb.api_key=null"),
        ("-m", "-m"),
    ],
)
def test_an_argument_is_shown_without_its_secret(argument: str, shown: str) -> None:
    assert redact_argument(argument) == shown
    assert redact_argument(shown) == shown


def test_what_is_learnt_is_cleaned_however_a_message_quotes_it() -> None:
    tree = {"pwd": "hunter'2/x", "n": {"token": 31415926}, "root": "https://me:p@ss/w0rd@host", "pin": {"pass": "ab"}}
    secrets.learn(tree)
    for said in ("no hunter'2/x", "no hunter%272%2Fx", "31415926!", "me:p@ss/w0rd@host:", "'p@ss/w0rd'"):
        assert REDACTED in clean(said)
        assert not any(word in clean(said) for word in ("hunter", "31415926", "w0rd"))
    assert clean(repr(ValueError(tree["pwd"]))) == f'ValueError("{REDACTED}")'
    assert clean("about the tab") == "about the tab"  # too short to be looked for in every word


def test_a_traceback_that_ends_a_process_is_cleaned() -> None:
    code = (
        "from corridor_exp.config import secrets; secrets.learn({'api_key': 'hunter2'})\n"
        "raise ValueError('it is ' + 'hunt' + 'er2')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ValueError: it is <redacted>" in done.stderr
    assert "hunter2" not in done.stderr


def test_a_mistake_does_not_repeat_a_secret(corridor_train, corridor_sweep, capsys) -> None:
    for argv in (
        ["logger.wandb.api_key=hunter2", "optim=crl"],
        ["logger.wandb.api_key=[hunter2"],
        ["logger.wandb.api_key=[hunter2]"],
        ["logger.wandb.api_key=hunter2,hunter2b"],
        ["logger.wandb.pwd=hunter2"],
        ["+pwd=hunter2"],
        ["--api-key=hunter2"],
        ["logger.wandb.mode=https://me:hunter2@host"],
        ["seed=https://hunter2token@host"],
        ["logger.wandb={api_key: hunter2, mode: on}"],
    ):
        assert corridor_train(*argv) == 2
        assert corridor_sweep(*argv, "seed=a") == 2
    assert "hunter2" not in "".join(capsys.readouterr())


# ----------------------------------------------------------------- to another process


def test_a_secret_goes_through_the_environment_and_through_no_file(tmp_path: Path, monkeypatch) -> None:
    key = "logger.wandb.api_key"
    (config,) = compose_jobs([f"{key}=hunter2", "dataset.root='https://me:hunter2@host/d'"], multirun=False)
    secrets.leave([config.model_dump()])
    (folder,) = Sweep.freeze(tmp_path, [config], []).folders
    assert not any(b"hunter2" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert thaw(folder) == config
    monkeypatch.delenv(secrets.variable(key))
    assert thaw(folder).logger["wandb"].api_key is None
    with pytest.raises(UsageError, match="the same for all runs"):
        secrets.leave([c.model_dump() for c in compose_jobs([f"{key}=a,b"], multirun=True)])


def test_whatever_is_redacted_is_restored() -> None:
    tree = {"pwd": 3.5, "credentials": {"user": "me", "keys": [1, {"x": "y"}]}, "a": ["https://t@h", 2], "n": 1}
    secrets.leave([tree])
    assert secrets.restore(redact(tree)) == tree
    assert "hunter2" not in str(redact({"pwd": ["hunter2"]}))


def test_a_run_that_an_older_version_has_written_in_clear_goes_on_and_is_not_shown(tmp_path: Path, capsys) -> None:
    (config,) = compose_jobs(["logger.wandb.api_key=hunter2"], multirun=False)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(exclude_unset=True)))
    (tmp_path / "records.jsonl").touch()
    refuse_to_start(config, tmp_path)
    with pytest.raises(UsageError) as refusal:
        refuse_to_start(compose_jobs(["logger.wandb.api_key=other", "seed=1"], multirun=False)[0], tmp_path)
    assert "hunter2" not in str(refusal.value)
    write(tmp_path, tmp_path / "report.html")
    assert "hunter2" not in (tmp_path / "report.html").read_text()


def test_what_leaves_for_wandb_is_redacted_once_more(tmp_path: Path, monkeypatch) -> None:
    from corridor_exp.loggers import wandb

    (tmp_path / "config.yaml").write_text("name: x\nlogger:\n  wandb: {api_key: hunter2}\n")
    (tmp_path / "records.jsonl").write_text('{"step": 0, "epoch": 0, "time": 1.0}\n')
    sent: list[dict[str, Any]] = []

    class StopError(Exception): ...

    def opened(directory: Path, config: dict[str, Any], *_: Any) -> None:
        sent.append(config)
        raise StopError

    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setattr(wandb, "_open", opened)
    with pytest.raises(StopError):
        sync([str(tmp_path)])
    assert sent == [{"name": "x", "logger": {"wandb": {"api_key": REDACTED}}}]


def test_the_identity_of_a_run_depends_on_no_secret_and_on_nothing_learnt() -> None:
    def identity(secret: str) -> dict[str, Any]:
        return compose_jobs([f"logger.wandb.api_key={secret}"], multirun=False)[0].identity()

    before = identity("cifar10")
    assert identity("resnet18") == before  # words of the configuration itself
    assert identity("null") == before  # a run that gets a key stays the same run
    assert before["dataset"]["name"] == "cifar10"
    assert Config.parse({**compose_jobs([], False)[0].public()}).identity()["model"]["name"] == "resnet18"


@pytest.mark.parametrize(("here", "seen"), [(None, None), ("https://<redacted>@host", "https://<redacted>@host")])
def test_a_text_with_a_secret_counts_as_null_where_this_environment_lacks_it(
    here: str | None, seen: str | None
) -> None:
    stored = {"logger": {"mine": {"url": "https://<redacted>@host", "n": 1}}}
    found = secrets.without_lost_secrets(stored, {"logger": {"mine": {"url": here, "n": 1}}})
    assert found == {"logger": {"mine": {"url": seen, "n": 1}}}


def test_a_run_goes_on_where_its_secret_is_not_known(tmp_path: Path) -> None:
    """It was frozen with one, and a later command does not give it. Any other change is still refused."""
    (config,) = compose_jobs(["logger.wandb.api_key=hunter2hunter2"], False)
    Sweep.freeze(tmp_path, [config], [])
    (folder,) = Sweep.open(tmp_path).folders
    (folder / "records.jsonl").touch()
    for name in [name for name in os.environ if name.startswith("CORRIDOR_SECRET")]:
        del os.environ[name]
    here = thaw(folder)
    assert here.logger["wandb"].api_key is None
    refuse_to_start(here, folder)
    with pytest.raises(UsageError, match="seed: 0 → 1"):
        refuse_to_start(here.model_copy(update={"seed": 1}), folder)
