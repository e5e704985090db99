"""The pages on images, odd names and missing parts, in a real Chromium; axe on what the other pages lack."""

from __future__ import annotations

import pytest
from dashboard_browser import (
    NO_CHROMIUM,
    OBJECT,
    chromium,
    lone_page,
    open_review,
    pictured,
    press,
    rows,
    serving,
    settled,
    shown,
)
from dashboard_data import MARKUP, write_search

from schema.engine import upgrade

pytestmark = [pytest.mark.browser, pytest.mark.skipif(chromium() is None, reason=NO_CHROMIUM)]
THEIRS = ("stSlider", "stSelectbox", "stNumberInput", "stToolbar", "stHeader", "stMainMenu")
"""Parts whose names are Streamlit's own."""


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    db = str(tmp_path_factory.mktemp("images") / "search.duckdb")
    upgrade(db)
    return db, write_search(db)


@pytest.fixture(scope="module")
def board(search):
    with serving(search[0], "--as", "Ada") as made:
        yield made


@pytest.fixture
def page():
    with lone_page() as opened:
        yield opened


def serious(page) -> list[tuple[str, str]]:
    """What axe finds in our own parts of a page."""
    from axe_playwright_python.sync_playwright import Axe

    owner = """(selector) => {
      let e = null; try { e = document.querySelector(selector); } catch { return ""; }
      const names = []; for (; e; e = e.parentElement) names.push(e.dataset?.testid || "");
      return names.join(" "); }"""
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
    return [
        (v["id"], node["html"][:200])
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
        if not any(t in page.evaluate(owner, node["target"][0]) for t in THEIRS)
    ]


def test_stamps_are_redrawn_as_asked(page, board):
    """Every scaling, and the residual, is another picture; the controls say in words what is shown."""
    open_review(page, f"{board.url}/?source=images")
    pictured(page)
    first = page.locator(".lm-stamp").first
    seen = [first.get_attribute("src")]

    def another() -> None:
        """Wait for a picture that was not there before."""
        page.wait_for_function(
            "(old) => { const i = document.querySelector('.lm-stamp');"
            " return i && i.complete && i.naturalWidth && !old.includes(i.getAttribute('src')); }",
            arg=seen,
        )
        seen.append(first.get_attribute("src"))

    for scaling in ("linear", "sqrt", "log"):
        by_role = (page.get_by_role(role, name=scaling, exact=True) for role in ("radio", "button"))
        next(by_role).or_(next(by_role)).first.click()
        another()
    page.keyboard.press("d")
    another()
    page.locator(".lm-stamp[alt*='residual']").first.wait_for()
    settled(page)
    words = first.get_attribute("alt")
    assert "irg" in words
    assert "hsc" in words


def test_names_of_surveys_and_missing_parts_are_words(page, board, search):
    """Markup in a survey's name is shown as typed; an object without a spectrum says so."""
    db, found = search
    with_spectrum = {str(t) for (t,) in rows(db, "select target_id from spectrum")}
    open_review(page, f"{board.url}/?order=shuffled")
    said: dict[str, str] = {}
    for _ in range(len(found.ids)):
        target = shown(page)
        said[target] = page.locator("[data-testid=stMain]").inner_text()
        if str(found.ids[25]) in said and {t in with_spectrum for t in said} == {True, False}:
            break
        press(page, "ArrowRight", target)
        settled(page)
    assert MARKUP in said[str(found.ids[25])]
    assert {t: "has no spectrum" in text for t, text in said.items()} == {
        t: t not in with_spectrum for t in said
    }


def test_mosaic_sign_in_and_side_bar_pass_axe(page, board, search):
    page.goto(f"{board.url}/?as=mosaic")
    page.wait_for_selector("#lm-mosaic-state")
    settled(page)
    page.wait_for_timeout(1000)
    assert serious(page) == []
    open_review(page, board.url)
    assert serious(page) == []
    with serving(search[0]) as asking:
        page.goto(asking.url)
        page.get_by_label("Passphrase").wait_for()
        assert page.locator(OBJECT).count() == 0
        assert serious(page) == []
