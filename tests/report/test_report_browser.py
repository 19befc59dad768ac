"""The page in a real browser: what a reader does with it, on a desk, on a phone and by keyboard alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from corridor_exp.files import to_json
from corridor_exp.report.page import write

pytestmark = [pytest.mark.slow, pytest.mark.browser]

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
        (run / "config.yaml").write_text(
            f"seed: {seed}\noptim: {{name: {method}}}\nengine: {{threads: {number % 2}}}\nresume: {{override: false}}\n"
        )
        lines = [
            {
                "step": k,
                "epoch": k // 10,
                "time": k / 50,
                "train/loss": 10.0 ** (-k / (10 + number)),
                "test/accuracy": k / 60,
                "train/evaluations": (k + 1) * 4 / 3,
            }
            | ({"train/epoch_loss": 1.0} if k % 10 == 9 else {})
            for k in range(50)
        ]
        if number == 5:
            lines[20]["train/loss"] = float("nan")
        (run / "records.jsonl").write_text("".join(to_json(line) + "\n" for line in lines))
        if number != 7:
            status = {"status": "diverged" if number == 5 else "completed", "step": 50, "error": None}
            (run / "summary.json").write_text(to_json(status))
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


def shown(page: Page, column: int) -> list[str]:
    script = "(rows, column) => rows.filter(r => !r.hidden).map(r => r.cells[column].firstChild.textContent)"
    return page.locator("#table tbody tr").evaluate_all(script, column)


def test_filters_narrow_the_table_and_the_plot(open_page: Callable[..., Page]) -> None:
    page = open_page()
    assert (len(shown(page, 1)), page.locator("#plot path.line").count()) == (12, 12)
    page.get_by_label("Filter").fill("sgd sweep")
    assert set(shown(page, 4)) == {"sgd"}
    assert page.locator("#shown").inner_text() == "4 of 12 shown"
    assert page.locator("#plot path.line").count() == page.locator("#legend li").count() == 4
    page.get_by_label("Filter").fill("")
    page.locator("#status").select_option("diverged")
    assert shown(page, 1) == ["sweep/5"]
    page.get_by_label("Draw sweep/5").uncheck()
    assert page.locator("#plot path.line").count() == 0
    assert "Nothing to draw" in page.locator("#readout").inner_text()
    page.locator("#status").select_option("")
    assert page.locator("#plot path.line").count() == 11
    page.get_by_label("Draw all shown runs").check()
    assert page.locator("#plot path.line").count() == 12


def test_sorting_by_keyboard(open_page: Callable[..., Page]) -> None:
    page = open_page()
    header = page.locator("#table th", has_text="test accuracy")
    column = header.evaluate("th => th.cellIndex")
    name = page.locator("#table thead th").first
    name.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert name.get_attribute("aria-sort") == "ascending"
    assert shown(page, 1)[1:4] == ["sweep/1", "sweep/2", "sweep/3"]
    page.keyboard.press("Space")
    assert name.get_attribute("aria-sort") == "descending"
    assert shown(page, 1)[0] == "sweep/11"
    for _ in range(30):
        page.keyboard.press("Tab")
        if header.get_by_role("button").evaluate("button => button === document.activeElement"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert name.get_attribute("aria-sort") is None
    assert shown(page, column) == sorted(shown(page, column))


def test_metric_and_axes_redraw_the_plot(open_page: Callable[..., Page]) -> None:
    page = open_page()
    drawings = set()

    def is_new() -> bool:
        drawing = page.locator("#plot").inner_html()
        seen = drawing in drawings
        drawings.add(drawing)
        return not seen

    assert is_new()
    assert page.get_by_label("log y").is_checked()  # the loss falls by orders of magnitude
    assert "1 point not finite, a gap in its line" in page.locator("#note").inner_text()
    page.get_by_label("Filter").fill("sweep/5")
    assert page.locator("#plot path.line").get_attribute("d").count("M") == 2  # one line, with a gap
    page.get_by_label("log y").uncheck()
    assert is_new()
    page.locator("#along").select_option("epoch")
    assert is_new()
    assert page.locator("#plot text").all_text_contents()[7:10] == ["4", "4.5", "5"]  # 50 steps are 5 epochs
    page.locator("#along").select_option("time")
    assert is_new()
    page.locator("#along").select_option("train/evaluations")
    assert is_new()
    assert page.locator("#plot text").all_text_contents()[:4] == ["10", "20", "30", "40"]  # 50 steps cost 67
    page.get_by_label("log x").check()
    assert is_new()
    page.get_by_label("Metric").select_option("test/accuracy")
    assert is_new()
    assert not page.get_by_label("log y").is_checked()


def test_the_plot_reads_out_by_pointer_and_by_keyboard(open_page: Callable[..., Page]) -> None:
    page = open_page()
    readout = page.locator("#readout")
    page.get_by_label("Filter").fill("sweep/1")  # 1, 10, 11
    page.get_by_label("Metric").select_option("test/accuracy")
    page.locator("#plot").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert readout.inner_text() == "test/accuracy 0.016667 at step 1: sweep/1 seed=0 optim.name=sgd engine.threads=1"
    page.keyboard.press("ArrowDown")
    assert "at step 1: sweep/10 seed=3" in readout.inner_text()
    page.keyboard.press("Tab")
    assert "at step 49: sweep/1 " in readout.inner_text()  # the first of the legend
    box = page.locator("#plot").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 16, box["y"] + 20)
    assert "at step 49" in readout.inner_text()
    assert page.locator("#plot.dimmed path.bright").count() == 1


def test_two_runs_are_compared(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.locator("#a").select_option(label="sweep/1")
    page.locator("#b").select_option(label="sweep/5")
    assert page.locator("#difference li").all_inner_texts() == ["seed: 0 → 1", "optim.name: sgd → adam"]
    page.locator("#b").select_option(label="sweep/1")
    assert page.locator("#difference li").all_inner_texts() == ["No key differs."]


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_overflows_the_page(open_page: Callable[..., Page], screen: str, tmp_path: Path) -> None:
    page = open_page(screen)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert page.screenshot(path=tmp_path / f"{screen}.png", full_page=True)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (screen != "dark")


def test_every_control_has_a_name(open_page: Callable[..., Page]) -> None:
    nameless = "all => all.filter(c => !c.labels.length && !c.ariaLabel && !c.textContent.trim()).length"
    assert open_page().locator("input, select, button").evaluate_all(nameless) == 0
