"""The built package and the size of the repository."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import corridor_exp

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_an_installed_wheel_works_from_any_folder(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)], check=True)  # from the sdist
    (wheel,) = tmp_path.glob("*.whl")
    (metadata,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA"))
    links = re.findall(r"\]\((.*?)\)", zipfile.ZipFile(wheel).read(metadata).decode())
    assert len(links) > 10
    assert not [link for link in links if not link.startswith(("https://", "#"))]  # PyPI has no other file
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True)
    assert (site / "corridor_exp" / "conf" / "config.yaml").is_file()
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from corridor_exp.cli.train import main; main(['--sbatch'])"
    printed = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True).stdout
    assert Path(printed.rstrip("\n")).is_relative_to(site)
    assert Path(printed.rstrip("\n")).read_text() == (ROOT / "scripts" / "train.sbatch").read_text()
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import corridor_exp.config.options as c;"
        f"assert c.CONF_DIR.is_relative_to({str(site)!r}), c.CONF_DIR;"
        "from corridor_exp.cli.train import main;"
        "main(['dataset=digits', 'model=linear', 'logger=jsonl', 'max_steps=2', 'out_dir=out'])"
    )
    away = tmp_path / "away"
    away.mkdir()
    assert subprocess.run([sys.executable, "-P", "-c", code], cwd=away).returncode == 0
    assert (away / "out" / "records.jsonl").is_file()
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from corridor_exp.cli.report import main; main(['out'])"
    assert subprocess.run([sys.executable, "-P", "-c", code], cwd=away).returncode == 0
    assert (away / "out" / "report.html").is_file()


def test_every_command_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for target in commands.values():
        module, _, function = target.partition(":")
        with pytest.raises(SystemExit) as exit_:
            getattr(importlib.import_module(module), function)(["--version"])
        assert (exit_.value.code, capsys.readouterr().out) == (0, f"corridor-exp {corridor_exp.__version__}\n")


def test_no_file_of_the_repository_is_large() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    sizes = {
        name: (ROOT / name).stat().st_size for name in listed.stdout.split("\0") if name and (ROOT / name).exists()
    }
    assert max(sizes.values()) < 1_000_000
