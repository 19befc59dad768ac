"""The workflows of .github/ run what .ci/run runs, on what pyproject.toml promises."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = {file.stem: file for file in (ROOT / ".github/workflows").glob("*.yml")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def jobs(name: str) -> dict[str, Any]:
    return yaml.load(WORKFLOWS[name].read_text(), yaml.BaseLoader)["jobs"]  # BaseLoader leaves the key `on` a word


def targets(script: str) -> set[str]:
    """What `make` is asked for in a script."""
    return set(re.findall(r"^make (\S+)", script, re.MULTILINE))


def commands(name: str) -> str:
    return "\n".join(step.get("run", "") for job in jobs(name).values() for step in job["steps"])


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_makes_what_there_is(name: str) -> None:
    there = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets(commands(name)) - there == set() != targets(commands(name))
    for job in jobs(name).values():
        assert int(job["timeout-minutes"]) <= 120
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_ci_makes_all_that_the_script_makes() -> None:
    assert targets((ROOT / ".ci/run").read_text()) | {"dist"} == targets(commands("ci"))


def test_ci_has_every_python_and_the_oldest_torch() -> None:
    matrix = jobs("ci")["tests"]["strategy"]["matrix"]
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert matrix["python"] == named
    oldest, newest = matrix["include"]
    for name in ("torch", "torchvision"):
        (bound,) = (need.removeprefix(name) for need in PROJECT["dependencies"] if need.startswith(f"{name}>="))
        assert (oldest[name], newest[name]) == (f"{bound.replace('>=', '==')}.*", bound)


def test_a_release_has_the_addresses_of_the_metadata() -> None:
    """PyPI's page links to the repository that the release workflow checks."""
    text = (ROOT / "pyproject.toml").read_text()
    (owner_and_name,) = set(re.findall(r"https://(?:raw\.githubuser|github\.)(?:content\.)?com/([\w-]+/[\w-]+)", text))
    assert PROJECT["urls"]["Repository"] == f"https://github.com/{owner_and_name}"
