"""The dashboard in a real Chromium, on the demo's database: every page, keys, restart, sign-in, bad input."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from dashboard_browser import (
    NO_CHROMIUM,
    WAIT_MS,
    browser,
    chromium,
    open_review,
    press,
    rows,
    serving,
    settled,
    shown,
    standing,
    wide_page,
)

from dashboard.settings import Settings
from schema.engine import connect_engine

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason=NO_CHROMIUM),
]
PICTURES = os.environ.get("LENSMINE_PICTURES_OUT")
"""Folder in which to keep a screenshot of each page, for docs/pictures."""
PAGES = ("review", "calibration", "plots", "runs", "lenscrafter", "sql")
TEXT_OF_PAGE = {
    "review": "surely a lens",
    "calibration": "Confusion matrices",
    "plots": "Tracer recovery curve",
    "runs": "Scoring runs",
    "lenscrafter": "Einstein radius",
    "sql": "Data dictionary",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """The demo's database, and where there are survey files some cutouts of HST beside it."""
    from dashboard.calibration import choose_calibrators
    from lensmine_demo import run_demo

    folder = tmp_path_factory.mktemp("demo") / "demo"
    run_demo(folder, 300, 1, "snr_lae", keep=False)
    db = str(folder / "lensmine.duckdb")
    choose_calibrators(db, injections=3)
    return folder


@pytest.fixture(scope="module")
def chrome():
    with browser() as made:
        yield made


@pytest.fixture
def page(chrome):
    opened = wide_page(chrome, accept_downloads=True)
    yield opened
    opened.context.close()


@pytest.fixture
def db(demo, tmp_path) -> str:
    """A copy of the demo for one test."""
    shutil.copytree(demo, tmp_path / "demo", dirs_exist_ok=True)
    return str(tmp_path / "demo" / "lensmine.duckdb")


@pytest.fixture(scope="module")
def board(demo, tmp_path_factory):
    """One dashboard that tests share which leave no trace that another minds."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(demo, folder, dirs_exist_ok=True)
    with serving(str(folder / "lensmine.duckdb"), "--as", "Ada") as made:
        yield made


def stands(page, db: str, grades: list[str]) -> None:
    """Wait until these grades stand for four seconds: keys come faster than the server saves."""
    seen: list[list[str]] = []
    while seen[-8:] != [grades] * 8 and len(seen) < WAIT_MS / 500:
        page.wait_for_timeout(500)
        seen.append([g for _, g in standing(db)])
    assert seen[-1] == grades


def open_page(page, board, name: str) -> None:
    page.goto(f"{board.url}/{'' if name == 'review' else name}")  # the review is the first page
    page.get_by_text(TEXT_OF_PAGE[name]).first.wait_for()
    settled(page)


def keep(page, name: str) -> None:
    if PICTURES:
        page.wait_for_timeout(2500)
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(PICTURES) / f"{name}.png"))


def test_grades_by_keyboard_undo_back_and_restart(page, db):
    """Every key is saved at once; a killed server loses nothing and goes on where it stood."""
    with serving(db, "--as", "Ada") as board:
        seen = [open_review(page, board.url)]
        for key in "1234":
            seen.append(press(page, key, seen[-1]))
            settled(page)
        assert standing(db) == list(zip(seen[:4], "ABCX", strict=True))
        assert press(page, "u", seen[4]) == seen[3]
        settled(page)
        assert standing(db) == list(zip(seen[:3], "ABC", strict=True))
        assert press(page, "ArrowLeft", seen[3]) == seen[2]
        settled(page)
        page.keyboard.press("1")  # a second thought takes the place of the first
        page.wait_for_function(
            "(t) => document.querySelector('#lm-object').dataset.target !== t", arg=seen[2]
        )
        settled(page)
        assert dict(standing(db))[seen[2]] == "A"
        here = shown(page)
        board.stop(kill=True)
        board.start()
        page.wait_for_timeout(1500)
        again = open_review(page, board.url)
        assert again == here
        press(page, "4", again)
        settled(page)
        graded = standing(db)
        assert dict(graded)[again] == "X"
        latest = rows(
            db, "select target_id, reviewer_id, count(*) from current_grade group by 1, 2 having count(*) > 1"
        )
        assert latest == []


def test_a_key_pressed_twice_is_one_grade(page, db):
    with serving(db, "--as", "Ada") as board:
        first = open_review(page, board.url)
        page.keyboard.press("1")
        page.keyboard.press("1")
        page.wait_for_function("(t) => document.querySelector('#lm-object').dataset.target !== t", arg=first)
        page.wait_for_timeout(1500)
        settled(page)
        found = standing(db)
        assert found[0] == (first, "A")
        assert shown(page) not in dict(found)
        assert len(found) == 1 or found[1][0] != first


def test_view_keys_change_the_picture_and_stay_in_the_address(page, board):
    open_review(page, board.url)
    before = page.locator("#lm-spectrum").get_attribute("src")
    page.keyboard.press("z")
    page.wait_for_function(
        "(s) => document.querySelector('#lm-spectrum').getAttribute('src') !== s", arg=before
    )
    settled(page)
    assert "view=zoom" in page.url
    page.reload()
    page.wait_for_selector("#lm-spectrum")
    settled(page)
    assert page.locator("#lm-spectrum").get_attribute("src") != before
    assert page.evaluate("() => document.querySelector('#lm-spectrum').naturalWidth") > 300
    page.keyboard.press("e")
    page.get_by_text("after the grade, or with the identity").wait_for()  # calibrators are mixed in
    page.keyboard.press("i")
    page.get_by_text("Asked").first.wait_for()


def test_filters_change_what_is_left(page, db):
    with serving(db, "--as", "Ada") as board:
        first = open_review(page, board.url)
        press(page, "1", first)
        settled(page)
        text = page.locator("#lm-object").inner_text()
        page.get_by_text("Hide what I graded").click()
        page.wait_for_function("(t) => document.querySelector('#lm-object').innerText !== t", arg=text)
        settled(page)
        assert "hide_graded=0" in page.url


def test_comments_and_tags_are_saved_and_shown_as_text(page, db):
    with serving(db, "--as", "Ada <i>Lovelace</i>") as board:
        target = open_review(page, board.url)
        assert page.get_by_text("Ada <i>Lovelace</i>").count()
        box = page.get_by_label("Comment")
        box.fill("<img src=x onerror=alert(1)> *not* <b>bold</b>")
        box.press("Enter")
        page.get_by_text("<b>bold</b>").wait_for()
        page.get_by_text("ring", exact=True).click()
        settled(page)
        page.wait_for_timeout(500)
        assert page.locator("img[onerror]").count() == 0
        found = rows(db, "select target_id, body, tag from review_note order by noted_at")
        assert found == [
            (int(target), "<img src=x onerror=alert(1)> *not* <b>bold</b>", None),
            (int(target), None, "ring"),
        ]
        assert standing(db) == []  # digits and letters typed into the box are no grades


def test_mosaic_is_graded_by_keyboard(page, db):
    with serving(db, "--as", "Ada") as board:
        page.goto(f"{board.url}/?as=mosaic")
        cells = page.locator("#grid button")
        cells.first.wait_for()
        settled(page)
        cells.nth(0).focus()
        for key in ("1", "4", "2"):
            page.keyboard.press(key)
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Backspace")
        stands(page, db, ["A", "X"])
        page.keyboard.press("3")  # another grade after one that was taken back
        stands(page, db, ["A", "X", "C"])
        assert cells.nth(1).get_attribute("aria-label").endswith("graded X")
        keep(page, "mosaic")
        cells.nth(4).focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#lm-object")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_draws_and_passes_axe(page, board, name):
    from axe_playwright_python.sync_playwright import Axe

    open_page(page, board, name)
    page.wait_for_timeout(1000)
    assert page.get_by_test_id("stException").count() == 0
    keep(page, name)
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
    # the names of these parts are Streamlit's own: they are reported there, not here
    theirs = (
        "stSlider",
        "stSelectbox",
        "stNumberInput",
        "stDataFrame",
        "stToolbar",
        "stHeader",
        "stSidebar",
        "stMainMenu",
        "vega",
    )
    ours = [
        (v["id"], node["html"][:200])
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
        if not any(t in page.evaluate(OWNER, node["target"][0]) for t in theirs)
    ]
    assert ours == []


OWNER = """(selector) => {
  let e = null; try { e = document.querySelector(selector); } catch { return ""; }
  const names = []; for (; e; e = e.parentElement) names.push(e.dataset?.testid || "",
  e.className?.toString() || "");
  return names.join(" ");
}"""


def test_pictures_and_charts_have_words(page, board):
    open_review(page, board.url)
    assert "Spectrum of a galaxy at redshift" in page.locator("#lm-spectrum").get_attribute("alt")
    hidden = page.locator("[aria-hidden=true] img")
    assert all(hidden.nth(k).get_attribute("alt") == "" for k in range(hidden.count()))
    open_page(page, board, "plots")
    chart = page.locator("[data-testid=stVegaLiteChart][aria-label*='Tracer recovery curve']")
    chart.first.wait_for()
    assert "Ranking performance" in chart.first.get_attribute("aria-label")


def test_the_grade_bar_is_reached_by_tab(page, board):
    open_review(page, board.url)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("() => document.activeElement.innerText || ''"))
        if "no lens" in reached[-1]:
            break
    assert any("surely a lens" in text for text in reached)
    assert any("no lens" in text for text in reached)


def test_plots_download_as_data_and_picture(page, board):
    open_page(page, board, "plots")
    for label, head in (
        ("Data (CSV)", b"# Tracer recovery curve; model snr_lae"),
        ("Picture (PNG)", b"\x89PNG"),
        ("Picture (PDF)", b"%PDF"),
    ):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=label).click()
        assert Path(waiting.value.path()).read_bytes().startswith(head)


def test_sql_reads_and_the_database_refuses_writes(page, board):
    open_page(page, board, "sql")
    box = page.get_by_label("Query", exact=True)
    box.fill("select count(*) as n from candidate")
    box.press("Control+Enter")
    page.locator("#lm-rows").wait_for()
    assert page.locator("#lm-rows").inner_text() == "1 rows"
    before = rows(board.db, "select count(*) from target")
    box.fill("delete from target")
    page.get_by_role("button", name="Run").click()
    page.get_by_text("the database refuses the query").wait_for()
    assert rows(board.db, "select count(*) from target") == before
    page.get_by_label("Look for").fill("skewness_err")
    page.get_by_label("Look for").press("Enter")
    page.get_by_text("line_fit (table)").wait_for()


def test_lenscrafter_redraws_at_once(page, board):
    open_page(page, board, "lenscrafter")
    page.locator("#lm-craft").wait_for()
    before = page.locator("#lm-craft").get_attribute("src")
    slider = page.get_by_role("slider", name="Einstein radius [arcsec]")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "(s) => document.querySelector('#lm-craft')?.getAttribute('src') !== s", arg=before
    )


def test_local_sign_in_is_bound_to_the_browser(chrome, db):
    """Bo cannot grade as Ada without her passphrase, nor with a cookie of his own making."""
    with serving(db) as board:
        ada = chrome.new_context()
        page = ada.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(board.url)
        page.get_by_label("Name").fill("Ada")
        page.get_by_label("Passphrase").fill("correct horse")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector("#lm-object")
        board.stop(kill=True)
        board.start()
        open_review(page, board.url)  # the cookie outlives the server
        bo = chrome.new_context()
        bo.add_cookies(
            [{"name": Settings(db=db).cookie, "value": "eyJuYW1lIjoiQWRhIn0.AAAA", "url": board.url}]
        )
        other = bo.new_page()
        other.set_default_timeout(WAIT_MS)
        other.goto(board.url)
        other.get_by_label("Name").fill("Ada")
        other.get_by_label("Passphrase").fill("wrong")
        other.get_by_role("button", name="Sign in").click()
        other.get_by_text("not the passphrase").wait_for()
        ada.close()
        bo.close()
        assert rows(db, "select name from reviewer") == [("Ada",)]


def test_bad_databases_are_named_with_what_to_do(page, tmp_path, db):
    with serving(str(tmp_path / "missing.duckdb"), "--as", "Ada") as board:
        page.goto(board.url)
        page.get_by_text("make one with: lensmine db upgrade").wait_for()
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("update alembic_version set version_num = '0001'"))
    with serving(db, "--as", "Ada") as board:
        page.goto(board.url)
        page.get_by_text("is at migration 0001").wait_for()


def test_a_shard_that_is_gone_is_named_and_grading_goes_on(page, db):
    shards = Path(db + ".shards")
    for folder in shards.iterdir():
        folder.rename(folder.with_name(folder.name + ".gone"))
    with serving(db, "--as", "Ada") as board:
        first = open_review(page, board.url)
        assert page.get_by_text("ingest its files again").count()
        press(page, "2", first)
        assert standing(db) == [(first, "B")]
