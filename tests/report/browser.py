"""What a reader does with the page, as the tests say it."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page


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
