"""Sign-in through an OpenID Connect provider, in Chromium: who grades is whom the provider vouched for."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
import sqlalchemy as sa
from dashboard_browser import (
    NO_CHROMIUM,
    OBJECT,
    WAIT_MS,
    browser,
    chromium,
    free_port,
    open_review,
    press,
    serving,
    settled,
)
from dashboard_data import write_search

from dashboard.settings import Settings
from schema.engine import connect_engine, upgrade

pytestmark = [pytest.mark.browser, pytest.mark.skipif(chromium() is None, reason=NO_CHROMIUM)]
SECRETS = """
[auth]
redirect_uri = "http://127.0.0.1:{port}/oauth2callback"
cookie_secret = "{cookie}"
client_id = "lensmine"
client_secret = "of the test"
server_metadata_url = "http://localhost:{provider}/.well-known/openid-configuration"
"""


@pytest.fixture
def board(tmp_path: Path):
    """A dashboard whose sign-in is a provider with two people, both of the name Ada."""
    provider = pytest.importorskip("oidc_provider_mock", reason="pip install '.[test,signin]'")
    pytest.importorskip("authlib", reason="pip install '.[test,signin]'")
    db = str(tmp_path / "search.duckdb")
    upgrade(db)
    write_search(db)
    port = free_port()
    people = [
        provider.User(sub=sub, claims={"name": "Ada", "email": f"{sub}@example.org"})
        for sub in ("one", "two")
    ]
    with provider.run_server_in_thread(user_claims=people) as server:
        (tmp_path / ".streamlit").mkdir()
        text = SECRETS.format(port=port, cookie=secrets.token_hex(32), provider=server.server_port)
        (tmp_path / ".streamlit" / "secrets.toml").write_text(text)
        with serving(db, port=port, cwd=tmp_path) as made:
            yield made


def sign_in(page, url: str, subject: str) -> None:
    page.set_default_timeout(WAIT_MS)
    page.goto(url)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name=subject, exact=True).click()
    page.wait_for_selector(OBJECT)
    settled(page)


def test_each_grade_is_of_whom_the_provider_vouched_for(board):
    with browser() as chrome:
        graded = {}
        for subject, key in (("one", "1"), ("two", "4")):
            context = chrome.new_context()
            page = context.new_page()
            sign_in(page, board.url, subject)
            target = open_review(page, board.url)
            press(page, key, target)
            settled(page)
            graded[subject] = target
            page.get_by_role("button", name="Sign out").click()
            page.get_by_role("button", name="End session").click()  # the provider asks, and sends back
            page.get_by_role("button", name="Sign in").wait_for()
            assert page.locator(OBJECT).count() == 0
            context.close()
    query = "select email, name, target_id, grade from grade join reviewer using (reviewer_id) order by email"
    with connect_engine(board.db, read_only=True).connect() as conn:
        found = [tuple(r) for r in conn.execute(sa.text(query))]
    assert [(e, t, g) for e, _, t, g in found] == [
        ("one@example.org", int(graded["one"]), "A"),
        ("two@example.org", int(graded["two"]), "X"),
    ]
    names = [name for _, name, _, _ in found]
    assert names[0] == "Ada"
    assert names[1].startswith("Ada (")  # two of one name are told apart


def test_no_cookie_of_ones_own_making_signs_in(board):
    """Neither a local sign-in's cookie nor an altered one of the provider's sign-in opens the pages."""
    with browser() as chrome:
        context = chrome.new_context()
        page = context.new_page()
        sign_in(page, board.url, "one")
        theirs = [c for c in context.cookies() if c["name"].startswith("_streamlit_user")]
        assert theirs
        other = chrome.new_context()
        forged = [{**c, "value": c["value"].replace(c["value"][20:24], "AAAA", 1)} for c in theirs]
        local = {"name": Settings(db=board.db).cookie, "value": "eyJuYW1lIjoiQWRhIn0.AAAA", "url": board.url}
        other.add_cookies([*forged, local])
        page = other.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(board.url)
        page.get_by_role("button", name="Sign in").wait_for()
        assert page.locator(OBJECT).count() == 0
