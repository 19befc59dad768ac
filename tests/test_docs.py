"""The commands of README.md and docs/: each is checked as the command itself checks it, and the cheap ones run.

tests/test_bring_your_own.py and tests/test_own_loop.py run their pages.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import matplotlib as mpl
import pytest
import torch
from torch import nn

from corridor_exp.cli import sweep, train, tune
from corridor_exp.sweeps.request import Request
from tests.conftest import exit_code

ROOT = Path(__file__).parents[1]
PAGES = {page.stem: page.read_text() for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
STARTING = "train", "sweep", "tune"  # commands that train; the others read runs
READING = "atlas", "figures", "report", "sync", "verify"
RUN = {"README", "tutorial", "corridor-index", "paper-figure"}  # pages that run, each from an empty folder
CHEAP = {"dataset=digits", "dataset=breast_cancer", "figure=example"}
HEAD = re.compile(rf"(corridor-({'|'.join(STARTING + READING)})|make|python|torchrun|sbatch|scripts/\S+) ")
RATES = "B/√2,B,B·√2"  # in docs/rules.md, which is older than the rate B
Command = list[str]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def commands(page: str) -> Iterator[Command]:
    """The words of each command of a page: a line of a block, or the last cell of a row.

    A block without a language may also hold what a command prints.
    """
    lines = "\n".join(blocks(page, "(?:sh)?")).replace("\\\n", " ").splitlines()
    lines += re.findall(r"^\|.*\| `(corridor-[^`]*)` \|$", PAGES[page], re.MULTILINE)
    for line in lines:
        if HEAD.match(line + " "):
            for command in line.split(" && "):
                yield shlex.split(command.replace(RATES, "0.07,0.1,0.14"), comments=True)


def main(name: str) -> Callable[[list[str]], None]:
    return import_module(f"corridor_exp.cli.{name}").main


def refusal(words: Command) -> object:
    """What is wrong with a command that has to exist as a file, or as the target of `make`; None if nothing is."""
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return words[1] not in targets or None
    script = words[1] if words[0] == "python" else words[0]
    return not (ROOT / script).is_file() or None


def check(words: Command) -> object:
    """0 or None if the command takes its arguments. Nothing trains, nothing is drawn."""
    head, *arguments = words
    if head == "torchrun":
        head, arguments = "corridor-train", words[words.index("corridor_exp.cli.train") + 1 :]
    elif head == "sbatch":
        head, arguments = "corridor-train", words[words.index("$(corridor-train --sbatch)") + 1 :]
    name = head.removeprefix("corridor-")
    if name == head:
        return refusal(words)
    arguments = [f"{ROOT}/{word}" if word.startswith("scripts/") else word for word in arguments]  # it runs elsewhere
    there = {"executor=slurm", "--status", "--cancel", "fork_from=parent@60"}  # need a cluster, a sweep or a run
    if any(word.startswith("out_dir=outputs/reference/") for word in arguments):  # that sweep is in the repository
        there -= {"--status"}
        arguments = [word.replace("out_dir=", f"out_dir={ROOT}/") for word in arguments]
    return exit_code(main(name), [word for word in arguments if word not in there])


def composed(request: Request, *_: object) -> int:
    """Each run of a sweep is composed and checked; of a figure, which may have 800, its grids are read."""
    return 0 if (request._grids() if request.settings.figure else request.configs) else 1


@pytest.fixture
def _nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_start", lambda *_: 0)
    monkeypatch.setattr(sweep, "carry_out", composed)
    monkeypatch.setattr(tune, "carry_out", lambda *_: 0)
    monkeypatch.setattr("corridor_exp.cli.estimate.report", lambda *_: "")
    for name in READING:
        monkeypatch.setattr(f"corridor_exp.cli.{name}._main", lambda *_: 0)


@pytest.mark.slow
@pytest.mark.usefixtures("_nothing_runs")
@pytest.mark.parametrize("page", [page for page in PAGES if page != "bring-your-own"])
def test_every_command_of_a_page_is_taken(page: str) -> None:
    wrong = [words for words in commands(page) if check(words)]
    assert not wrong


def test_the_pages_have_commands() -> None:
    assert sum(len(list(commands(page))) for page in PAGES) > 80


def is_cheap(page: str, words: Command) -> bool:
    """True for a command that trains on little, or reads what an earlier one of the page has left.

    The README's sweeps are like those of the other pages.
    """
    name, arguments = words[0].removeprefix("corridor-"), set(words[1:])
    if page == "README" and name in ("sweep", "tune"):
        return False
    if name in STARTING:
        return bool(CHEAP & arguments) and not any("slurm" in word or "drift" in word for word in arguments)
    reads = "example" in arguments or any(Path(word).is_dir() for word in arguments)
    return name in ("atlas", "figures", "report") and reads


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", sorted(RUN))
def test_the_cheap_commands_of_a_page_run(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page. Sweeps take three steps a run, single runs at most 90."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    ran = 0
    for words in commands(page):
        if is_cheap(page, words):
            name, arguments = words[0].removeprefix("corridor-"), words[1:]
            if name in STARTING:
                arguments = [f"max_steps={90 if name == 'train' else 3}", *arguments]
            assert exit_code(main(name), arguments) == 0, words
            ran += 1
    assert ran > 1
    mpl.use("Agg")
    for code in blocks(page, "python"):
        model = nn.Linear(4, 2)
        names = {"model": model, "criterion": nn.CrossEntropyLoss(), "x": torch.randn(5, 4), "y": torch.arange(5) % 2}
        exec(code, names)


PROGRAMS = [
    pytest.param(program, id=f"{page}-{number}")
    for page, text in PAGES.items()
    for number, block in enumerate(re.findall(r"^ *```python\n.*?^ *```", text, re.MULTILINE | re.DOTALL))
    if "outputs/reference" in (program := "\n".join(dedent(block).splitlines()[1:-1]))
]


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_that_reads_the_reference_records_prints_numbers(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    exec(program, {})
    assert re.search(r"\d", capsys.readouterr().out)


def test_every_figure_is_in_the_gallery_and_drawn_by_a_command_that_names_it() -> None:
    shown = re.findall(r"\(figures/([\w-]+)\.png\)", PAGES["gallery"])
    assert sorted(shown) == sorted(file.stem for file in (ROOT / "docs/figures").glob("*.png"))
    for words in commands("gallery"):
        if "--runs" in words and words[-1] != "DIR":
            assert (ROOT / words[words.index("--runs") + 1]).is_dir()


def test_every_message_of_the_troubleshooting_page_is_one_of_the_package() -> None:
    source = "".join(re.sub(r'"\s*\n\s*f?"', "", file.read_text()) for file in (ROOT / "corridor_exp").rglob("*.py"))
    messages = re.findall(r"^\| `([^`]+)` \|", PAGES["troubleshooting"], re.MULTILINE)
    assert len(messages) > 20
    assert not [message for message in messages if message not in source]
