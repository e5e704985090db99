"""Keys on a slow line: none is lost once an object is drawn, and none grades an object that is not."""

from __future__ import annotations

from collections import deque

import pytest
from dashboard_browser import (
    NO_CHROMIUM,
    chromium,
    lone_page,
    open_review,
    serving,
    settled,
    shown,
    standing,
)
from dashboard_data import write_search

from schema.engine import upgrade

pytestmark = [pytest.mark.browser, pytest.mark.skipif(chromium() is None, reason=NO_CHROMIUM)]
PICTURES = "() => [...document.querySelectorAll('#lm-spectrum, .lm-stamp')].map((i) => i.src).join()"
WATCH = """(old) => {
  window.presses = [];
  document.addEventListener('keydown', (event) => {
    const images = [...document.querySelectorAll('#lm-spectrum, .lm-stamp')];
    window.presses.push({
      key: event.key, target: document.querySelector('#lm-object').dataset.target,
      seen: images.length > 0 && images.every((i) => !old.includes(i.src)),
    });
  }, true);
}"""


@pytest.fixture
def page():
    with lone_page() as opened:
        yield opened


@pytest.fixture
def search_db(tmp_path) -> str:
    db = str(tmp_path / "search.duckdb")
    upgrade(db)
    write_search(db)
    return db


class Line:
    """The connection between page and server, which the test lets through message by message."""

    def __init__(self, page) -> None:
        self.held: deque = deque()
        self.holding = False
        page.route_web_socket("**/_stcore/stream", self._connect)

    def _connect(self, socket) -> None:
        server = socket.connect_to_server()

        def down(message) -> None:
            if self.holding:
                self.held.append((socket, message))
            else:
                socket.send(message)

        server.on_message(down)

    def open(self) -> None:
        """Let everything through from now on."""
        self.holding = False
        while self.let_one_through():
            pass

    def let_one_through(self) -> bool:
        if not self.held:
            return False
        socket, message = self.held.popleft()
        socket.send(message)
        return True


def test_a_key_grades_what_is_drawn_and_nothing_else(page, search_db):
    """Messages come one by one, a key is pressed after each: the next object is graded once it is drawn."""
    line = Line(page)
    with serving(search_db, "--as", "Ada") as board:
        first = open_review(page, board.url)
        page.evaluate(WATCH, page.evaluate(PICTURES).split(","))
        line.holding = True
        page.keyboard.press("1")
        page.wait_for_timeout(3000)  # the whole answer waits on the line now
        assert len(line.held) > 5
        notes = set()
        for _ in range(len(line.held)):
            line.let_one_through()
            page.wait_for_timeout(40)
            page.keyboard.press("2")
            notes.add(page.locator(".lm-wait").inner_text())
        line.open()
        page.wait_for_timeout(2000)
        settled(page)
        presses = page.evaluate("() => window.presses")
        saved = standing(search_db)
        assert saved[0] == (first, "A")
        seen = {p["target"] for p in presses if p["seen"]}
        assert {t for t, _ in saved[1:]} <= seen
        assert any("Press again" in note for note in notes), "a key that came too early is not silent"


def test_a_key_pressed_the_moment_an_object_is_drawn_is_saved(page, search_db):
    """The keys of an object work from its first moment on, however slowly the rest of the page comes."""
    line = Line(page)
    with serving(search_db, "--as", "Ada") as board:
        seen = [open_review(page, board.url)]
        for key in "1234":
            line.holding = True
            page.keyboard.press(key)
            until_drawn(page, line, seen[-1])
            seen.append(shown(page))
            line.open()
        line.open()
        settled(page)
        assert standing(search_db) == list(zip(seen[:4], "ABCX", strict=True))


def until_drawn(page, line: Line, old: str) -> None:
    """Let messages through until the pictures on screen are of another object."""
    for _ in range(2000):
        if page.evaluate(
            """(old) => {
              const o = document.querySelector('#lm-object'), p = [...document.querySelectorAll('.lm-of')];
              const i = [...document.querySelectorAll('#lm-spectrum, .lm-stamp')];
              return o && o.dataset.target !== old && p.length > 0 && i.every((i) => i.complete)
                && p.every((e) => e.dataset.target === o.dataset.target); }""",
            old,
        ):
            return
        line.let_one_through()
        page.wait_for_timeout(30)
    raise AssertionError(f"still {old} on screen")
