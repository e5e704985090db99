"""The address in a real Chromium: it holds the place in the queue and the settings of the queue."""

from __future__ import annotations

import pytest
from dashboard_browser import (
    NO_CHROMIUM,
    WAIT_MS,
    browser,
    chromium,
    open_review,
    pictured,
    press,
    serving,
    settled,
    shown,
    standing,
    wide_page,
)
from dashboard_data import N_IMAGE, write_search
from playwright.sync_api import expect

from dashboard.queues import QueueSpec, forget_orders, load_order
from schema.engine import upgrade

pytestmark = [pytest.mark.browser, pytest.mark.skipif(chromium() is None, reason=NO_CHROMIUM)]

SESSION = "() => document.querySelector('#lm-bar')?.session"


@pytest.fixture(scope="module")
def db(tmp_path_factory) -> str:
    made = str(tmp_path_factory.mktemp("place") / "search.duckdb")
    upgrade(made)
    write_search(made)
    return made


@pytest.fixture(scope="module")
def board(db):
    with serving(db, "--as", "Ada") as made:
        yield made


@pytest.fixture(scope="module")
def chrome():
    with browser() as made:
        yield made


@pytest.fixture
def page(chrome):
    opened = wide_page(chrome)
    yield opened
    opened.context.close()


def queue_of(db: str, **asked) -> list[str]:
    """Targets of a queue, first to last, as the database has it."""
    forget_orders()
    return [str(t) for t in load_order(db, QueueSpec(**asked)).target_id]


def reloaded(page) -> str:
    page.reload()
    return pictured(page)


def choose(page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option).click()


def another_object(page, before: str) -> str:
    """Wait until the object on screen is not the one before; returns it."""
    page.wait_for_function("(t) => document.querySelector('#lm-object')?.dataset.target !== t", arg=before)
    settled(page)
    return shown(page)


def test_the_settings_of_the_queue_order_it_and_stay(page, db, board):
    """Order and seed put another object first; the address brings them back, a new visitor's form too."""
    best = open_review(page, board.url)
    assert best == queue_of(db)[0]
    choose(page, "Order", "Models disagree most first")
    spread = another_object(page, best)
    assert spread == queue_of(db, order="spread")[0]
    choose(page, "Order", "Shuffled")
    one = another_object(page, spread)
    assert one == queue_of(db, order="shuffled", seed=1)[0]
    seed = page.get_by_label("Seed", exact=True)
    seed.fill("7")
    seed.press("Enter")
    seven = another_object(page, one)
    assert seven == queue_of(db, order="shuffled", seed=7)[0]
    assert "order=shuffled" in page.url
    assert "seed=7" in page.url
    assert reloaded(page) == seven
    assert seed.input_value() == "7"
    other = wide_page(page.context.browser)
    assert open_review(other, page.url) == seven
    assert other.get_by_label("Seed", exact=True).input_value() == "7"
    other.context.close()


def test_hidden_are_what_i_graded_and_known_lenses(page, db, board):
    """Each box of the form takes objects out of the queue and brings them back."""
    best = open_review(page, f"{board.url}/?source=image_candidate&model=second")
    n_graded = len(standing(db))
    press(page, "1", best)
    settled(page)

    def left(n: int) -> None:
        page.get_by_text(f"{n} left in this queue").wait_for()

    left(n := len(queue_of(db, source="image_candidate", model="second")) - 1)
    page.get_by_text("Hide known lenses").click()
    left(n - 1)
    assert "hide_known=1" in page.url
    page.get_by_text("Hide what I graded").click()
    left(n)
    assert shown(page) == best  # graded, and first again
    page.get_by_text("your grade: A").wait_for()
    page.get_by_text("Hide what I graded").click()
    assert another_object(page, best) != best
    assert len(standing(db)) == n_graded + 1


def test_reload_and_restart_come_back_to_what_was_on_screen(page, db, board):
    """Objects and a mosaic, in open pages and in a copied address: what was skipped stays skipped."""
    after_reload, mosaic, copied = (page.context.new_page() for _ in range(3))
    first = turned_mosaic(mosaic, board)
    again = walked(after_reload, board, seed=2)
    assert reloaded(after_reload) == again[-1]
    seen = walked(page, board, seed=3)
    assert f"at={seen[-1]}" in page.url
    before = standing(db)
    sessions = {one: one.evaluate(SESSION) for one in (page, after_reload)}
    board.stop(kill=True)
    page.keyboard.press("4")
    board.start()
    for one, targets in ((page, seen), (after_reload, again)):  # they find the server, and their places
        one.wait_for_function(
            f"([s, t]) => ({SESSION})() !== s && document.querySelector('#lm-object')?.dataset.target === t",
            arg=[sessions[one], targets[-1]],
            timeout=WAIT_MS,
        )
        settled(one)
    assert standing(db) == before  # a key pressed meanwhile graded nothing
    page.get_by_text("a key that you pressed meanwhile was not taken").wait_for()
    for one, targets in ((page, seen), (after_reload, again)):
        assert press(one, "ArrowRight", targets[-1]) not in targets
    settled(page)
    assert open_review(copied, page.url) == shown(page)
    mosaic.get_by_text("You are back at your page of stamps").wait_for()
    assert stamps(mosaic, N_IMAGE - 20) == first
    mosaic.reload()
    assert stamps(mosaic, N_IMAGE - 20) == first


def walked(page, board, seed: int) -> list[str]:
    """Go through a shuffled queue: a skip, a grade, a skip; the objects seen, the one on screen last."""
    seen = [open_review(page, f"{board.url}/?source=image_candidate&order=shuffled&seed={seed}")]
    for key in ("ArrowRight", "2", "ArrowRight"):
        pictured(page)
        seen.append(press(page, key, seen[-1]))
        settled(page)
    assert len(set(seen)) == 4
    return seen


def turned_mosaic(page, board) -> str:
    """Turn a mosaic of 20 to its second and last page; words of the first stamp there."""
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{board.url}/?as=mosaic&source=image_candidate&order=shuffled&seed=9&hide_graded=0")
    stamps(page, N_IMAGE)
    page.get_by_text("20", exact=True).click()
    stamps(page, 20)
    page.get_by_role("button", name="Next page", exact=True).click()
    return stamps(page, N_IMAGE - 20)


def stamps(page, n: int) -> str:
    """Wait for so many stamps; words of the first."""
    cells = page.locator("#grid button")
    expect(cells).to_have_count(n, timeout=WAIT_MS)
    settled(page)
    return str(cells.first.get_attribute("aria-label"))
