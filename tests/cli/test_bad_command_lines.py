"""What a user may mistype: `bad_command_lines.yaml` holds the command lines, and what is said about each."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from corridor_exp.cli import sweep, train, tune

Run = Callable[..., int]
LINES: dict[str, str] = yaml.safe_load(Path(__file__).with_name("bad_command_lines.yaml").read_text())
OWN = {
    "optim/broken": b"name: [\n",
    "optim/tab": b"\tname: x\n",
    "optim/binary": b"name: \xff\n",
    "optim/list": b"- a\n- b\n",
    "optim/text": b"only text\n",
    "optim/missing": b"_target_: torch.optim.SGD\nlr: ???\n",
    "optim/nowhere": b"_target_: torch.optim.SGD\nlr: ${nope}\n",
    "optim/defaults": b"defaults:\n  - nothing: here\n",
    "model/reserved": b"_target_: corridor_exp.models.mlp\ndepth: [2, 2]\n",
}


@pytest.fixture
def _nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line that is taken after all ends with 0, and not with a training run."""
    monkeypatch.setattr(train, "_start", lambda *_: 0)
    monkeypatch.setattr(sweep, "run", lambda *_: 0)
    monkeypatch.setattr(tune, "carry_out", lambda *_: 0)


@pytest.fixture
def _files() -> None:
    Path("file").touch()
    for name, content in OWN.items():
        option = Path("own", name).with_suffix(".yaml")
        option.parent.mkdir(parents=True, exist_ok=True)
        option.write_bytes(content)


@pytest.mark.usefixtures("_nothing_runs", "_files")
@pytest.mark.parametrize("line", LINES)
def test_row_20_bad_usage_is_one_line_and_exit_2(
    corridor_train: Run, corridor_sweep: Run, corridor_tune: Run, capsys, line: str
) -> None:
    command, *argv = shlex.split(line)
    commands = {"corridor-train": corridor_train, "corridor-sweep": corridor_sweep, "corridor-tune": corridor_tune}
    assert commands[command](*argv) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert err.startswith(f"{command}: ")
    assert LINES[line] in err
    assert "Traceback" not in err
    assert "hunter" not in err
    assert len(err) < 1500
    assert out == ""
    assert {path.name for path in Path().iterdir()} == {"file", "own"}


@pytest.mark.usefixtures("_nothing_runs")
@pytest.mark.parametrize("size", [101, 300, 5000])
def test_row_19_a_name_or_a_folder_that_is_too_long_is_refused(corridor_train: Run, capsys, size: int) -> None:
    for argv in ([f"name={'n' * size}"], [f"out_dir={'n/' * size}{'n' * size * 3}"]):
        assert corridor_train(*argv) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "1 to 100" in err or "too long" in err
    assert not list(Path().iterdir())


@pytest.mark.usefixtures("_nothing_runs")
@pytest.mark.parametrize("value", ["[" * 3000, "9" * 5000, "{a:" * 500])
def test_a_value_that_no_parser_can_read_is_refused(corridor_train: Run, capsys, value: str) -> None:
    assert corridor_train(f"seed={value}") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert len(err) < 1500


def test_torch_stays_out() -> None:
    code = (
        "import sys, shlex; from corridor_exp.cli import sweep, train, tune\n"
        "for line in sys.argv[1:]:\n"
        "    command, *argv = shlex.split(line)\n"
        "    try: {'corridor-train': train, 'corridor-sweep': sweep, 'corridor-tune': tune}[command].main(argv)\n"
        "    except SystemExit as exit_: assert exit_.code == 2, line\n"
        "sys.exit('torch' in sys.modules)"
    )
    sample = [line for line in list(LINES)[::7] if not any(s in line for s in ("own", "file", "\0"))]
    assert len(sample) > 20
    assert subprocess.run([sys.executable, "-c", code, *sample], capture_output=True).returncode == 0
