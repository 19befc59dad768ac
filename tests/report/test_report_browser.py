"""The page in a real browser: what a reader does with it, on a desk, on a phone and by keyboard alone."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from corridor_exp.config.compose import compose_jobs
from corridor_exp.files import to_json, to_yaml
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


def shown(page: Page, column: int) -> list[str]:
    script = "(rows, column) => rows.filter(r => !r.hidden).map(r => r.cells[column].firstChild.textContent)"
    return page.locator("#table tbody tr").evaluate_all(script, column)


def all_alone(page: Page) -> None:
    """Each run by itself, and all drawn."""
    page.get_by_label("Group").select_option("each")
    page.get_by_label("Draw all shown runs").check()


def names(page: Page) -> list[str]:
    return page.locator("#table tbody th").evaluate_all("all => all.map(th => th.firstElementChild.textContent)")


def header(page: Page, name: str) -> Any:
    return page.locator("#table thead th", has_text=name)


def test_it_begins_with_the_best_groups_of_seeds(open_page: Callable[..., Page]) -> None:
    page = open_page()
    assert page.locator("#shown").inner_text() == "12 of 12 shown, in 6 groups"
    columns = page.locator("#table thead th button").all_inner_texts()
    assert columns[:5] == ["run", "status", "optim.name", "optim.lr", "seed"]
    assert header(page, "epoch loss").get_attribute("aria-sort") == "ascending"
    # Seeds 1 and 3 of adam: runs 5 and 11, of losses 1/6 and 1/12.
    assert page.locator("#table tbody tr").first.locator("td").all_inner_texts()[1:6] == [
        *["1 diverged, 1 completed", "adam", "0.001", "1, 3", "2"]
    ]
    assert page.locator("#table tbody tr").first.locator("td").nth(6).inner_text().split() == [
        *["0.125", "0.0833", "to", "0.167"]
    ]
    assert page.locator("#legend li").count() == 6
    assert page.locator("#plot path.line").count() == 12  # a line a seed, two of one colour
    strokes = page.locator("#plot path.line").evaluate_all("all => all.map(path => path.getAttribute('stroke'))")
    assert len(set(strokes)) == 6
    page.get_by_label("Group").select_option("each")
    page.get_by_role("button", name="Draw the first 8").click()
    assert names(page)[:2] == ["sweep/11", "sweep/10"]
    assert page.locator("#plot path.line").count() == 8


def test_a_group_opens_and_is_ticked_as_one(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.get_by_label("Group").select_option("optim.name")
    assert page.locator("#plot path.line").count() == page.locator("#plot path.band").count() == 3  # medians of four
    page.get_by_role("button", name="4 runs").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#table tbody tr").count() == 7
    assert page.get_by_role("button", name="4 runs").first.get_attribute("aria-expanded") == "true"
    page.get_by_label("Draw sweep/11").uncheck()
    assert page.get_by_label("Draw adam").evaluate("tick => tick.indeterminate")
    assert page.locator("#plot path.band").count() == 2  # three seeds have a line each
    page.get_by_label("Draw adam").check()
    page.get_by_label("Draw adam").uncheck()
    assert page.locator("#plot path.line").count() == 2
    page.locator("#legend button").first.focus()
    assert "(" in page.locator("#readout").inner_text()  # the range


def test_smoothing_and_zoom(open_page: Callable[..., Page]) -> None:
    page = open_page()
    all_alone(page)
    page.get_by_label("Filter").fill("sweep/2")
    whole = page.locator("#plot path.line").get_attribute("d")
    page.locator("#smooth").select_option("15")
    assert page.locator("#plot path.line").get_attribute("d") != whole
    page.locator("#smooth").select_option("1")
    assert page.locator("#plot path.line").get_attribute("d") == whole
    box = page.locator("#plot").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 300)
    assert page.locator("#frame").get_attribute("visibility") == "visible"
    page.mouse.up()
    assert page.locator("#plot path.line").get_attribute("d") != whole
    page.get_by_role("button", name="Show the whole").click()
    assert page.locator("#plot path.line").get_attribute("d") == whole
    page.locator("#plot").focus()
    page.keyboard.press("+")
    assert page.locator("#plot path.line").get_attribute("d") != whole
    page.keyboard.press("Escape")
    assert page.locator("#plot path.line").get_attribute("d") == whole


def test_one_column_against_another(open_page: Callable[..., Page]) -> None:
    page = open_page()
    all_alone(page)
    page.locator("#view").select_option("scatter")
    page.locator("#scatter-x").select_option(label="optim.name")
    page.locator("#scatter-y").select_option(label="epoch loss")
    assert page.locator("#plot path.dots").count() == 12
    said = page.locator("#plot text").all_text_contents()
    assert said[:3] == ["adam", "clr", "sgd"]
    page.locator("#plot").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#readout").inner_text().startswith("epoch loss 1 at optim.name clr: a-folder")
    page.locator("#scatter-x").select_option(label="last train/loss")
    assert page.locator("#plot path.dots").count() == 12
    assert not page.locator("#metric").is_visible()


def test_what_the_table_shows_is_saved_as_csv(open_page: Callable[..., Page]) -> None:
    page = open_page()
    for group, lines in (("but-seed", 7), ("each", 13)):
        page.get_by_label("Group").select_option(group)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as CSV").click()
        saved = list(csv.reader(Path(download.value.path()).read_text().splitlines()))
        assert len(saved) == lines
        assert {len(line) for line in saved} == {len(saved[0])}
        best = dict(zip(saved[0], saved[1], strict=True))
        assert float(best["epoch loss"]) == pytest.approx(0.125 if group == "but-seed" else 1 / 12)
    assert best["run"] == "sweep/11"


def test_a_row_leads_to_its_run_its_atlas_and_its_command(open_page: Callable[..., Page], page_file: Path) -> None:
    page = open_page()
    page.get_by_label("Group").select_option("each")
    links = {link.inner_text(): link.get_attribute("href") for link in page.locator("#table tbody a").all()}
    assert (page_file.parent / links["sweep/1"] / "records.jsonl").exists()
    assert (page_file.parent / links["atlas"]).name == "atlas.png"
    page.get_by_role("row", name="sweep/9").locator("summary").click()
    page.get_by_role("row", name="sweep/9").get_by_role("button", name="copy").click()
    command, *words = page.evaluate("getSelection().toString()").split()
    assert (command, set(words) - {"engine.threads=2"}) == (
        "corridor-train",
        {"dataset=digits", "model=mlp", "optim=clr", "logger=jsonl", "seed=3"},
    )


def test_filters_narrow_the_table_and_the_plot(open_page: Callable[..., Page]) -> None:
    page = open_page()
    all_alone(page)
    assert (len(shown(page, 1)), page.locator("#plot path.line").count()) == (12, 12)
    page.get_by_label("Filter").fill("sgd sweep")
    assert set(shown(page, 3)) == {"sgd"}
    assert page.locator("#shown").inner_text() == "4 of 12 shown"
    assert page.locator("#plot path.line").count() == page.locator("#legend li").count() == 4
    page.get_by_label("Filter").fill("")
    page.locator("#status").select_option("diverged")
    assert names(page) == ["sweep/5"]
    page.get_by_label("Draw sweep/5").uncheck()
    assert page.locator("#plot path.line").count() == 0
    assert "Nothing to draw" in page.locator("#readout").inner_text()
    page.locator("#status").select_option("")
    assert page.locator("#plot path.line").count() == 11
    page.get_by_label("Draw all shown runs").check()
    assert page.locator("#plot path.line").count() == 12


def test_sorting_by_keyboard(open_page: Callable[..., Page]) -> None:
    page = open_page()
    all_alone(page)
    accuracy = header(page, "test accuracy")
    column = accuracy.evaluate("th => th.cellIndex")
    name = page.locator("#table thead th").first
    name.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert name.get_attribute("aria-sort") == "ascending"
    assert names(page)[1:4] == ["sweep/1", "sweep/2", "sweep/3"]
    page.keyboard.press("Space")
    assert name.get_attribute("aria-sort") == "descending"
    assert names(page)[0] == "sweep/11"
    for _ in range(30):
        page.keyboard.press("Tab")
        if accuracy.get_by_role("button").evaluate("button => button === document.activeElement"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert accuracy.get_attribute("aria-sort") == "ascending"
    assert name.get_attribute("aria-sort") is None
    assert shown(page, column) == sorted(shown(page, column))


def test_metric_and_axes_redraw_the_plot(open_page: Callable[..., Page]) -> None:
    page = open_page()
    all_alone(page)
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
    page.get_by_label("log x").check()
    assert is_new()
    page.get_by_label("Metric").select_option("test/accuracy")
    assert is_new()
    assert not page.get_by_label("log y").is_checked()


def test_the_plot_reads_out_by_pointer_and_by_keyboard(open_page: Callable[..., Page]) -> None:
    page = open_page()
    all_alone(page)
    readout = page.locator("#readout")
    page.get_by_label("Filter").fill("sweep/1")  # 1, 10, 11
    page.get_by_label("Metric").select_option("test/accuracy")
    page.locator("#plot").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert (
        readout.inner_text()
        == "test/accuracy 0.016667 at step 1: sweep/1 optim.name=sgd optim.lr=0.1 seed=0 engine.threads=2"
    )
    page.keyboard.press("ArrowDown")
    assert "at step 1: sweep/10 optim.name=sgd optim.lr=0.1 seed=3" in readout.inner_text()
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
    said = page.locator("#difference li").all_inner_texts()
    assert said[:2] == ["seed: 0 → 1", "optim.name: sgd → adam"]
    assert "optim.momentum: 0.0 → (absent)" in said
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
