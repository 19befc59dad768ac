"""A page over twelve runs, opened in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from corridor_exp.config.compose import compose_jobs
from corridor_exp.files import to_json
from corridor_exp.report.page import write
from corridor_exp.yaml_files import to_yaml

# As root, and without the services of its own that Chromium would look up on the network.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENS: dict[str, dict[str, Any]] = {
    "desk": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
    "wide": {"viewport": {"width": 2000, "height": 1200}},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("Chromium is not installed; .ci/run installs it as root, with apt-get")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve runs by hand: three methods, four seeds; a diverged one, a torn one, one whose path is long."""
    folder = tmp_path_factory.mktemp("runs")
    for number in range(12):
        method, seed = ("clr", "sgd", "adam")[number % 3], number // 3
        run = folder / (f"sweep/{number}" if number else "a-folder-with-a-rather-long-name/" * 3 + "0")
        run.mkdir(parents=True)
        words = [f"optim={method}", f"seed={seed}", f"engine.threads={number % 2 + 1}", "logger=jsonl"]
        (config,) = compose_jobs(["dataset=digits", "model=mlp", *words], multirun=False)
        (run / "config.yaml").write_text(to_yaml(config.public()))
        lines = [
            {
                "step": k,
                "epoch": k // 10,
                "time": k / 50,
                "train/loss": 10.0 ** (-k / (10 + number)),
                "test/accuracy": k / 60,
                "train/evaluations": (k + 1) * 4 / 3,
            }
            | ({"train/epoch_loss": 1.0 / (number + 1)} if k % 10 == 9 else {})
            for k in range(50)
        ]
        if number == 5:
            lines[20]["train/loss"] = float("nan")
        (run / "records.jsonl").write_text("".join(to_json(line) + "\n" for line in lines))
        if number != 7:
            status = {"status": "diverged" if number == 5 else "completed", "step": 50, "error": None}
            (run / "summary.json").write_text(to_json(status))
    (folder / "sweep/1/atlas.png").write_bytes(b"")
    write(folder, folder / "report.html")
    return folder / "report.html"


@pytest.fixture
def open_page(browser: Browser, page_file: Path) -> Iterator[Callable[..., Page]]:
    """Opens the page on a screen; at the end nothing was logged, nothing failed, and only the file was asked for."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def opened(screen: str = "desk") -> Page:
        contexts.append(browser.new_context(**SCREENS[screen]))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == {page_file.as_uri()}
