"""A team on PostgreSQL in a real Chromium: a walk over the pages, and a disagreement that a third settles."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from dashboard_browser import (
    NO_CHROMIUM,
    OBJECT,
    browser,
    chromium,
    open_review,
    pictured,
    press,
    rows,
    serving,
    settled,
    shown,
    standing,
    wide_page,
)
from dashboard_data import write_search

pytestmark = [pytest.mark.browser, pytest.mark.skipif(chromium() is None, reason=NO_CHROMIUM)]
CONSENSUS = "select n_grade, n_a, n_x, grade_range, verdict from consensus where target_id = {0}"


@pytest.fixture(scope="module")
def db(postgres_database, tmp_path_factory):
    """A PostgreSQL database with the small search in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LENSMINE_SHARDS", str(tmp_path_factory.mktemp("team") / "shards"))
        patch.setenv("LENSMINE_PICTURES", str(tmp_path_factory.mktemp("team") / "pictures"))
        for made in postgres_database("lensmine_template"):
            write_search(made)
            with serving(made) as board:
                yield board.db, board.url


@pytest.fixture(scope="module")
def team(db):
    """Pages of three people who have signed in; Cy came first and adjudicates."""
    _, url = db
    with browser() as chrome:
        yield {name: signed_in(chrome, url, name) for name in ("Cy", "Ada", "Bo")}


def signed_in(chrome, url: str, name: str):
    page = wide_page(chrome, accept_downloads=True)
    page.goto(url)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Passphrase").fill(f"passphrase of {name}")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector(OBJECT)
    return page


def walk_to(page, name: str, text: str) -> None:
    """Go to a page by its name in the bar."""
    page.get_by_test_id("stTopNavLink").filter(has_text=name).click()
    page.get_by_text(text).first.wait_for()
    settled(page)
    assert page.get_by_test_id("stException").count() == 0
    assert page.get_by_test_id("stAlertContentError").count() == 0


def test_a_walk_over_the_pages_on_postgresql(db, team):
    url, page = db[0], team["Ada"]
    settled(page)
    first = pictured(page)
    second = press(page, "1", first)
    settled(page)
    assert standing(url) == [(first, "A")]
    pictured(page)
    press(page, "4", second)
    settled(page)
    assert standing(url) == [(first, "A"), (second, "X")]
    page.keyboard.press("u")
    page.wait_for_function("(t) => document.querySelector('#lm-object').dataset.target === t", arg=second)
    settled(page)
    assert standing(url) == [(first, "A")]
    assert rows(
        url, "select name, grade, queue from grade join reviewer using (reviewer_id) order by graded_at"
    ) == [
        ("Ada", "A", "proposed probability"),
        ("Ada", "X", "proposed probability"),
    ]
    for name, text in (
        ("Calibration", "Confusion matrices"),
        ("Plots", "Tracer recovery curve"),
        ("Runs", "Scoring runs"),
        ("LensCrafter", "Einstein radius"),
        ("SQL", "Data dictionary"),
    ):
        walk_to(page, name, text)
    box = page.get_by_label("Query", exact=True)
    box.fill("select model, count(*) as n from image_candidate group by model")
    box.press("Control+Enter")
    page.get_by_text("2 rows").wait_for()
    box.fill("update target set survey = 'mine'")
    page.get_by_role("button", name="Run").click()
    page.get_by_text("the database refuses the query").wait_for()
    walk_to(page, "Review", "surely a lens")
    assert pictured(page) == second


def test_a_disagreement_is_settled_by_a_third_and_the_consensus_follows(db, team):
    (url, board), (ada, bo, cy) = db, (team[name] for name in ("Ada", "Bo", "Cy"))
    queue = f"{board}/?source=image_candidate&order=shuffled&seed=4"
    target = open_review(ada, queue)
    assert open_review(bo, queue) == target
    for page, key in ((ada, "1"), (bo, "4")):
        pictured(page)
        press(page, key, target)
        settled(page)
    assert rows(url, CONSENSUS.format(target)) == [(2, 1, 1, 3, None)]
    bo.goto(f"{board}/?source=disagreement")
    bo.get_by_text("disagreements are settled by adjudicators, and Bo is none").wait_for()
    walk_to(cy, "Calibration", "1 objects have grades far apart")
    cy.get_by_role("link", name="Settle them").click()
    cy.wait_for_selector(OBJECT)
    settled(cy)
    assert shown(cy) == target
    for name, grade in (("Ada", "A"), ("Bo", "X")):  # an adjudicator sees what they said
        cy.get_by_role("row", name=f"{name} {grade}").wait_for()
    pictured(cy)
    cy.keyboard.press("2")
    cy.get_by_text("Nothing left of 1 objects").wait_for()
    settled(cy)
    assert rows(url, CONSENSUS.format(target)) == [(2, 1, 1, 3, "B")]  # beside the grades, not one of them
    walk_to(cy, "Calibration", "None to settle.")
    with cy.expect_download() as waiting:
        cy.get_by_role("button", name="Consensus (CSV)").click()
    table = pd.read_csv(Path(waiting.value.path())).set_index("target_id")
    assert table.loc[int(target), "verdict"] == "B"
