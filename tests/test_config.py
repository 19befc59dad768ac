from __future__ import annotations

import pytest
import yaml

from corridor_exp import targets
from corridor_exp.cli.compose import compose_jobs
from corridor_exp.config import CONF_DIR, Config, difference, option_groups, refuse_to_start
from corridor_exp.errors import UsageError


def compose(*overrides: str) -> Config:
    return compose_jobs(overrides, multirun=False)[0]


OPTIONS = [(group, option) for group, options in option_groups([CONF_DIR]).items() for option in options]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_its_keys_are_its_targets_arguments(group: str, option: str) -> None:
    optim = ["optim=sgd"] if group == "optim/schedule" else []
    config = compose(*optim, f"{group}={option}")
    for component in config.components().values():
        assert callable(component.factory())
    if group in ("dataset", "model", "optim"):
        assert getattr(config, group).name == option


def test_every_yaml_option_begins_by_saying_what_it_is() -> None:
    for file in CONF_DIR.rglob("*.yaml"):
        assert file.read_text().startswith("# "), file


def test_several_loggers_and_probes_may_be_chosen() -> None:
    config = compose("logger=[wandb,tensorboard]", "probe=none")
    assert set(config.logger) == {"wandb", "tensorboard"}
    assert config.probe.components() == {}
    assert compose("probe=[corridor]", "probe.every=3").probe.every == 3


def test_a_sweep_is_one_configuration_a_job() -> None:
    jobs = compose_jobs(["optim=sgd", "optim.lr=0.1,1", "seed=0,1"], multirun=True)
    assert [(job.optim.lr, job.seed) for job in jobs] == [(0.1, 0), (0.1, 1), (1, 0), (1, 1)]


def test_a_folder_of_ones_own_adds_options(tmp_path) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("name: mine\n_target_: mylib.Best\nspeed: 3\n")
    with pytest.raises(UsageError, match=r"mylib\.Best is not trusted"):
        compose_jobs(["optim=mine"], False, str(tmp_path))
    targets.allow(["mylib"])
    (config,) = compose_jobs(["optim=mine"], False, str(tmp_path))
    targets.allow([])
    assert config.optim.keywords() == {"speed": 3}


def test_a_run_is_the_same_run_whatever_the_folder() -> None:
    a, b = compose("out_dir=/tmp/a"), compose("out_dir=/tmp/b", "resume.override=true")
    assert a.identity() == b.identity()
    assert a.run_id() == b.run_id() != compose("seed=1").run_id()


def test_the_number_of_threads_is_part_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert compose().engine.threads == 3


def test_another_configuration_in_the_same_folder_is_refused_with_the_difference(tmp_path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(compose("optim=sgd", "optim.lr=0.1").public()))
    refuse_to_start(compose("optim=adam"), tmp_path)  # no record yet, so nothing to lose
    (tmp_path / "records.jsonl").touch()
    refuse_to_start(compose("optim=sgd", "optim.lr=0.1"), tmp_path)
    with pytest.raises(UsageError, match=r"optim\.lr: 0\.1 → 0\.2.*resume\.override=true"):
        refuse_to_start(compose("optim=sgd", "optim.lr=0.2"), tmp_path)
    refuse_to_start(compose("optim=sgd", "optim.lr=0.2", "resume.override=true"), tmp_path)


def test_a_difference_names_leaves_on_either_side() -> None:
    assert difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}) == [
        "a.b: 1 → 3",
        "a.c: 2 → (absent)",
        "d: (absent) → 4",
    ]
