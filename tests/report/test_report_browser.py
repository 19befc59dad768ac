"""The page in a real browser: what a reader does with it, on a desk, on a phone and by keyboard alone."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.report.browser import all_alone, header, names, shown
from tests.report.conftest import SCREENS

pytestmark = [pytest.mark.slow, pytest.mark.browser]


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
