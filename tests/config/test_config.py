from __future__ import annotations

import pytest
import yaml

from corridor_exp.config import targets
from corridor_exp.config.component import Component
from corridor_exp.config.compose import compose_jobs
from corridor_exp.config.differences import difference
from corridor_exp.config.options import CONF_DIR, option_groups, our_option
from corridor_exp.config.schema import Config
from corridor_exp.errors import UsageError
from corridor_exp.objective.batches import DataShape
from corridor_exp.runs.places import refuse_to_start


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


def test_only_an_option_of_ones_own_takes_keys_that_its_file_lacks(tmp_path) -> None:
    for name in ("optim/mine", "probe/spy"):
        (tmp_path / name).parent.mkdir()
    (tmp_path / "optim/mine.yaml").write_text("_target_: torch.optim.RMSprop\nlr: 0.1\n")
    (tmp_path / "probe/spy.yaml").write_text("spy:\n  _target_: corridor_exp.probes.Corridor\n")
    argv = ["optim=mine", "+optim.alpha=0.9", "probe=[spy,corridor]", "+probe.spy.depth=3"]
    (config,) = compose_jobs(argv, False, str(tmp_path))
    assert config.optim.keywords() == {"lr": 0.1, "alpha": 0.9}
    assert config.optim.name == "mine"  # its file's
    with pytest.raises(UsageError, match=r"unknown key 'probe\.corridor\.depth'"):
        compose_jobs([*argv, "+probe.corridor.depth=3"], False, str(tmp_path))
    other = compose("optim=sgd", "optim._target_=torch.optim.RMSprop", "+optim.alpha=0.9")
    assert other.optim.keywords()["alpha"] == 0.9  # whose keys no file of ours tells
    with pytest.raises(UsageError, match=r"unknown key 'optim\.alpha'"):
        compose("optim=sgd", "+optim.alpha=0.9")


def test_an_option_of_ours_takes_no_key_that_its_file_lacks_whoever_adds_it(tmp_path) -> None:
    """A typed key is in `bad_command_lines.yaml`; here a folder of options, another label, and a stored run add one."""
    (tmp_path / "dataset").mkdir()
    mine = "# @package _global_\ndataset: {_target_: torch.nn.Linear}\n"
    for added, key in (
        ("optim: {speed: 3}", "optim.speed"),
        ("model: {wdth: 3}", "model.wdth"),
        ("probe: {corridor: {momentum: 0.5}}", "probe.corridor.momentum"),
        ("logger: {wandb: {mod: online}}", "logger.wandb.mod"),
        ("engine: {devise: cpu}", "engine.devise"),
        ("optim: {schedule: {name: cosine, perod: 3}}", "optim.schedule.perod"),
        ("speed: 3", "speed"),
    ):
        (tmp_path / "dataset/mine.yaml").write_text(f"{mine}{added}\n")
        with pytest.raises(UsageError, match=f"unknown key '{key}'"):
            compose_jobs(["dataset=mine"], False, str(tmp_path))
    with pytest.raises(UsageError, match=r"unknown key 'optim\.alpha'"):
        compose("optim=sgd", "optim.name=other", "+optim.alpha=0.9")
    stored = compose("optim=sgd").public()
    assert Config.parse(stored).public() == stored
    for group, key, meant in (("optim", "lrr", "lr"), ("model", "wdth", "width"), ("engine", "devise", "device")):
        with pytest.raises(UsageError, match=f"unknown key '{group}.{key}'; did you mean '{group}.{meant}'"):
            Config.parse({**stored, group: {**stored[group], key: 3}})


@pytest.mark.parametrize(
    ("override", "chosen", "cure"),
    [
        ("optim.name=clr", "sgd", "optim=clr"),
        ("optim={name: clr}", "sgd", "optim=clr"),
        ("optim.schedule.name=cosine", "constant", "optim/schedule=cosine"),
        ("model.name=vgg11", "resnet18", "model=vgg11"),
        ("dataset.name=digits", "cifar10", "dataset=digits"),
    ],
)
def test_an_option_cannot_take_the_name_of_another_one(override: str, chosen: str, cure: str) -> None:
    with pytest.raises(UsageError) as error:
        compose("optim=sgd", override)
    named = override.replace("={name: clr}", ".name=clr")
    assert str(error.value) == f"{named} would only rename {chosen}; to choose: {cure}"


def test_an_option_can_be_named_anew_or_by_its_own_name() -> None:
    assert compose("optim=clr", "optim.name=polyak_capped").optim.name == "polyak_capped"
    assert compose("optim=clr", "optim.name=clr").optim.name == "clr"


def test_the_keys_of_an_option_of_ours_are_those_of_the_options_it_is_based_on() -> None:
    for option in ("adamw", "sgd"):
        assert our_option("optim", option).keys() == compose(f"optim={option}").public()["optim"].keys()
    assert our_option("model", "vgg11_bn") == compose("model=vgg11_bn").public()["model"]
    assert our_option("optim", "mine") == our_option("mine", "sgd") == our_option("optim", None) == {}


def test_an_option_based_on_one_of_ours_has_a_name_of_its_own_and_goes_on_with_its_own_keys(tmp_path) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim/damped.yaml").write_text("defaults:\n  - sgd\n  - _self_\ndampening: 0.1\nmomentum: 0.9\n")
    (config,) = compose_jobs(["optim=damped"], False, str(tmp_path))
    assert config.optim.name == "damped"
    assert Config.parse(config.public()).optim.keywords() == {
        "lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0, "dampening": 0.1
    }  # fmt: skip


def test_a_key_that_its_option_lacks_has_no_value() -> None:
    config = compose("optim=clr", "model=linear")
    assert config.optim.keywords() == {"scale": 1.0, "step_cap": None, "f_star": 0.0}
    assert config.optim.lr is config.model.width is config.dataset.mean is None


def test_the_grammar_is_hydras(tmp_path) -> None:
    def sgd(*overrides: str) -> list[tuple[int, float]]:
        return [(job.seed, job.optim.lr) for job in compose_jobs(["optim=sgd", *overrides], multirun=True)]

    assert sgd("seed=range(0,4,2)", "optim.lr=0.1,1") == [(0, 0.1), (0, 1.0), (2, 0.1), (2, 1.0)]
    assert sgd("seed=choice(3,1)", "seed=5,6") == [(5, 0.1), (6, 0.1)]  # the later one holds
    assert sgd("++optim.lr=4", "seed=sort(2,1)") == [(1, 4.0), (2, 4.0)]
    assert compose("optim=sgd", "optim={lr: 3}").optim.keywords()["lr"] == 3
    assert "schedule" not in compose("optim=sgd", "~optim/schedule").optim.keywords()
    assert compose("~optim.scale").optim.keywords().keys() == {"step_cap", "f_star"}
    assert compose("name=${model.name}-${seed}", "seed=3").name == "resnet18-3"
    names = [job.optim.name for job in compose_jobs(["optim=glob([clr*,sgd],exclude=*trust)"], multirun=True)]
    assert names == ["clr", "clr_momentum", "sgd"]


def net(width: int) -> object:
    """A model's factory that forgets that the data's shape is its first argument."""


@pytest.mark.parametrize(
    ("target", "keys", "said"),
    [
        (
            "tests.config.test_config.net",
            {"width": 3},
            r"multiple values for argument 'width'; it is called with \(DataShape, width=\)",
        ),
        ("tests.config.test_config.net", {}, None),
        (
            "corridor_exp.models.mlp",
            {"speed": 3},
            r"unexpected keyword argument 'speed'; it is called with \(DataShape, speed",
        ),
        ("nowhere_at_all.net", {}, r"No module named 'nowhere_at_all'; PYTHONPATH=\. before the command"),
    ],
)
def test_a_factory_that_cannot_be_called_is_told_how_it_is_called(
    monkeypatch, target: str, keys: dict, said: str | None
) -> None:
    monkeypatch.setattr(targets, "_allowed", ("tests", "nowhere_at_all"))
    component = Component(_target_=target, **keys)
    shape = DataShape(channels=1, size=8, outputs=10, stem="none")
    if said is None:
        component.build(shape)
    else:
        with pytest.raises(UsageError, match=said):
            component.build(shape)


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
