"""The plot of the page in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.report.browser import all_alone

pytestmark = [pytest.mark.slow, pytest.mark.browser]


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
    page.locator("#along").select_option("train/evaluations")
    assert is_new()
    ticks = page.locator("#plot text").all_text_contents()
    assert ticks[:13] == [str(gradients) for gradients in range(5, 66, 5)]  # 50 steps cost 67
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
