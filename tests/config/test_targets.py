"""What a configuration may start: nothing that a run folder or a folder of options could choose by itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from torch import nn
from torchvision import models

from corridor_exp.cli import atlas, figures
from corridor_exp.config import targets
from corridor_exp.config.component import Component
from corridor_exp.config.compose import compose_jobs
from corridor_exp.config.options import our_targets
from corridor_exp.config.schema import Config
from corridor_exp.errors import UsageError
from corridor_exp.runs import layout
from corridor_exp.sweeps.frozen import Sweep, thaw
from tests.conftest import SMALL

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def _nothing_more_is_trusted() -> Iterator[None]:
    targets.allow([])
    yield
    targets.allow([])


def load(target: str) -> object:
    return Component(name="x", _target_=target).factory()


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that leaves a file when it is imported, and has what a module may have."""
    (tmp_path / "home").mkdir()
    name = f"plugin_{tmp_path.name}"
    (tmp_path / "home" / f"{name}.py").write_text(
        "import pathlib, os, subprocess, torch\n"
        "from torch.optim import SGD as Renamed\n"
        "from subprocess import run\n"
        "pathlib.Path('imported').touch()\n"
        "class Best(torch.optim.SGD): ...\n"
        "class Folder:\n    @classmethod\n    def open(cls): return cls()\n"
        "start = os.system\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "home")
    return name


# ------------------------------------------------------------------- what is allowed


def test_every_target_of_our_own_options_is_allowed_and_there() -> None:
    assert len(our_targets()) > 30
    for target in our_targets():
        assert callable(load(target))


@pytest.mark.parametrize(
    "target",
    ["torch.optim.RMSprop", "torch.optim.adamw.AdamW", "torch.nn.Linear", "torch.nn.modules.linear.Linear"],
)
def test_optimizers_and_modules_of_torch_are_allowed(target: str) -> None:
    assert isinstance(load(target), type)


def test_registered_builders_of_torchvision_are_allowed() -> None:
    assert load("torchvision.models.resnet18") is models.resnet18
    assert load("torchvision.models.detection.ssd300_vgg16") is models.detection.ssd300_vgg16


REFUSED = [
    "os.system",
    "logging.os.system",
    "builtins.eval",
    "torch.load",
    "torch.os.system",
    "torch.hub.load_state_dict_from_url",
    "torch.utils.cpp_extension.load",
    "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler",
    "torchvision.datasets.utils.download_url",
    "torchvision.os.system",
    "torch.optim.Nope",
    "torch.optim",
    "torch.optim.lr_scheduler.LambdaLR",
    "torch.optim.Adam.load_state_dict",
    "torch.optim.optimizer.torch.load",
    "torch.optim.optimizer.functools.partial",
    "torch.nn.functional.relu",
    "torch.nn.modules.module.torch.load",
    "torch.nn.Module.__class__",
    "torch.nn.Linear.__init__",
    "torch.nn.parallel.distributed.os.system",
    "torchvision.models.get_model",
    "torchvision.models._api.sys.exit",
    "torchvision.models.resnet.ResNet._make_layer",
    "corridor_exp.runs.provenance.subprocess",
    "corridor_exp.runs.provenance.subprocess.run",
    "corridor_exp.models.adapt.adapt",
    "corridor_exp.optim.CLR.step",
    "torch.optim.SGD;os",
    "torch.optim..SGD",
    "torch",
    "",
]


@pytest.mark.parametrize("target", REFUSED)
def test_row_17_what_only_looks_trusted_is_refused(target: str) -> None:
    with pytest.raises(UsageError, match=r"\A_target_=.*\Z"):  # one line
        load(target)


def test_row_17_what_is_not_allowed_is_never_imported(plugin: str) -> None:
    for target in (f"{plugin}.Best", f"torch.nn.{plugin}.Best", f"{plugin}x.Best"):
        targets.allow([plugin + "x"] if target.startswith(f"{plugin}x") else ["tests", plugin[:-1]])
        with pytest.raises(UsageError):
            load(target)
    assert not Path("imported").exists()
    assert plugin not in sys.modules


def test_a_prefix_allows_its_module_but_not_what_that_only_imports(plugin: str) -> None:
    for prefix in (plugin, f"{plugin}.", f"{plugin}.Best"):
        targets.allow([prefix])
        assert load(f"{plugin}.Best").__name__ == "Best"
    targets.allow([plugin])
    assert load(f"{plugin}.Folder.open")().__class__.__name__ == "Folder"
    assert load(f"{plugin}.Renamed").__name__ == "SGD"  # torch's optimizer, by whatever name
    for name in ("os.system", "start", "run", "subprocess.run", "torch.load", "pathlib.Path"):
        with pytest.raises(UsageError):
            load(f"{plugin}.{name}")
    assert Path("imported").exists()


def test_only_whole_words_are_prefixes() -> None:
    targets.allow(["torch.util"])
    with pytest.raises(UsageError, match="not trusted"):
        load("torch.utils.cpp_extension.load")
    for prefix in ("", "my lib", "os;x", "a..b"):
        with pytest.raises(UsageError, match="no module's name"):
            targets.allow([prefix])


# ------------------------------------------------------------------- who may allow it


def test_only_an_argument_of_the_command_line_allows_more() -> None:
    assert targets.take(["seed=1", "allow_targets=[mylib.,'other.Thing']", "-m"]) == ["seed=1", "-m"]
    assert targets.allowed() == ("mylib", "other.Thing")
    assert targets.take(["allow_targets=mylib"]) == []
    assert targets.allowed() == ("mylib",)
    targets.take(["seed=1"])
    assert targets.allowed() == ()


def option(place: Path, text: str, group: str = "optim") -> str:
    (place / group).mkdir(parents=True)
    (place / group / "mine.yaml").write_text(text)
    return str(place)


def test_a_folder_of_options_cannot_allow_its_own_targets(tmp_path: Path, corridor_train: Run, capsys) -> None:
    place = option(
        tmp_path / "conf",
        "# @package _global_\nallow_targets: [os]\noptim:\n  name: mine\n  _target_: os.system\n",
    )
    with pytest.raises(UsageError, match=r"optim\._target_=os\.system is not trusted"):
        compose_jobs(["optim=mine"], False, place)
    for sign in ("", "+", "++"):
        with pytest.raises(UsageError, match="no key of a run"):
            compose_jobs([f"{sign}allow_targets=[os]"], False)
    assert corridor_train(*SMALL, "optim=mine", "--config-dir", place, "allow_targets=[mylib]") == 2
    assert corridor_train("allow_target=[mylib]") == 2
    assert "did you mean 'allow_targets'" in capsys.readouterr().err


def test_what_the_command_line_allows_is_no_part_of_the_run(tmp_path: Path, corridor_train: Run) -> None:
    place = option(tmp_path / "conf", "name: mine\n_target_: tests.plugins.Plain\nlr: 0.1\n")
    argv = [*SMALL, "optim=mine", "--config-dir", place, "max_steps=1", "probe=none", "out_dir=out"]
    assert corridor_train(*argv) == 2
    assert corridor_train(*argv, "allow_targets=[tests.plugins]") == 0
    assert "allow_targets" not in Path("out/config.yaml").read_text()
    assert corridor_train(*argv, "allow_targets=[tests.plugins,tests]") == 0  # the same run, which is done


def test_a_run_of_an_older_version_is_read_and_its_word_on_trust_is_not(tmp_path: Path) -> None:
    (config,) = compose_jobs(SMALL, multirun=False)
    old = {**config.public(), "allow_targets": ["os"]}
    assert Config.parse(old).identity() == config.identity()
    with pytest.raises(UsageError, match="not trusted"):
        Config.parse({**old, "optim": {"_target_": "os.system"}})


ATTACKS = {
    "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler": {
        "entrypoint": "/bin/sh",
        "args": ["-c", "touch shell"],
        "env": {},
        "stdout": None,
        "stderr": None,
        "local_rank_id": 0,
        "numa_options": None,
    },
    "torchvision.datasets.utils.download_url": {"url": "file:///etc/hostname", "root": ".", "filename": "shell"},
}


@pytest.mark.parametrize("target", ATTACKS)
def test_a_run_folder_starts_nothing(target: str, digits_run: Run, corridor_sweep: Run, tmp_path: Path, capsys) -> None:
    assert digits_run("max_steps=1", "probe=none", "out_dir=out") == 0
    stored = yaml.safe_load(Path("out/config.yaml").read_text())
    stored["allow_targets"] = ["torch", "torchvision"]
    stored["logger"] = {"mine": {"_target_": target, **ATTACKS[target]}}
    Path("out/config.yaml").write_text(yaml.safe_dump(stored))
    Path("sweep/0").mkdir(parents=True)
    Path("sweep/0/config.yaml").write_text(yaml.safe_dump(stored))
    manifest = {"command": ["a=1"], "runs": ["0"], "time": "2026-01-01", "git_commit": None}
    Path("sweep/sweep.json").write_text(json.dumps(manifest))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        atlas.main(["out"])
    assert stopped.value.code == 2
    assert "logger.mine._target_" in capsys.readouterr().err
    assert corridor_sweep("out_dir=sweep") == 1
    assert "is not trusted" in Path("sweep/0/summary.json").read_text()
    assert not Path("shell").exists()
    assert not Path("sweep/0/shell").exists()


def test_a_sweep_that_goes_on_and_the_atlas_take_it_from_their_own_command_line(
    tmp_path: Path, corridor_sweep: Run, capsys
) -> None:
    place = option(tmp_path / "conf", "name: mine\n_target_: tests.plugins.Plain\nlr: 0.1\n")
    argv = [*SMALL, "optim=mine", "--config-dir", place, "probe=none", "max_steps=1", "out_dir=out"]
    assert corridor_sweep(*argv) == 2
    Sweep.freeze(Path("out"), _trusting(argv[:-1], place), ["a=1"])
    assert corridor_sweep("out_dir=out") == 1
    assert "is not trusted" in Path("out/0/summary.json").read_text()
    assert corridor_sweep("out_dir=out", "allow_targets=[tests.plugins]") == 0
    with pytest.raises(SystemExit) as stopped:
        atlas.main(["out/0"])
    assert stopped.value.code == 2
    atlas.main(["out/0", "allow_targets=[tests.plugins]"])
    assert Path("out/0/atlas.csv").exists()
    assert "allow_targets" not in Path("out/sweep.json").read_text()
    assert targets.allowed() == ("tests.plugins",)
    targets.allow([])
    with pytest.raises(UsageError, match="not trusted"):
        thaw(Path("out/0"))


def _trusting(argv: list[str], place: str) -> list[Config]:
    targets.allow(["tests.plugins"])
    configs = compose_jobs([word for word in argv if word not in ("--config-dir", place)], False, place)
    targets.allow([])
    return configs


@pytest.mark.parametrize("run", ["../../X", "/tmp/X", "..", ".", "a/b", "", "a\0", 7, None])
def test_a_manifest_names_runs_in_its_own_folder_only(tmp_path: Path, corridor_sweep: Run, capsys, run: object) -> None:
    place = tmp_path / "a" / "sweep"
    place.mkdir(parents=True)
    (place / "sweep.json").write_text(json.dumps({"command": ["a=1"], "runs": [run], "time": "t", "git_commit": None}))
    assert corridor_sweep(f"out_dir={place}") == 2
    with pytest.raises(SystemExit) as stopped:
        figures.main(["stability", "--runs", str(place)])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.count("is no folder of a run" if isinstance(run, str) else "runs.0: Input should be a valid string") == 2
    written = {path for path in tmp_path.rglob("*") if not path.name.startswith(".")}
    assert {path for path in written if "cache" not in path.parts} == {place.parent, place, place / "sweep.json"}
    with pytest.raises(UsageError):
        layout.run_folders(place, [run])


def test_what_is_built_is_what_was_allowed() -> None:
    assert Component(_target_="torch.nn.Linear", in_features=2, out_features=3).build().weight.shape == (3, 2)
    assert isinstance(Component(_target_="torchvision.models.squeezenet1_1").build(), nn.Module)


@pytest.mark.parametrize(("group", "kind"), [("model", "Module"), ("optim", "Optimizer")])
def test_a_target_that_returns_another_kind_of_object_is_told_so(
    group: str, kind: str, tmp_path: Path, corridor_train: Run, capsys
) -> None:
    place = option(tmp_path / "conf", "name: mine\n_target_: tests.plugins.forgetful\n", group)
    argv = ["dataset=digits", "probe=none", "logger=jsonl", "out_dir=out", f"{group}=mine", "--config-dir", place]
    argv += [] if group == "model" else ["model=mlp"]
    assert corridor_train(*argv, "allow_targets=[tests.plugins]") == 2
    said = capsys.readouterr().err
    assert f"_target_=tests.plugins.forgetful returns NoneType, and not {kind}\n" in said
    assert "Traceback" not in said
