"""Reviewers at once, each in a browser, with the server killed in the middle."""

from __future__ import annotations

import threading
import time
from typing import Any

import sqlalchemy as sa
from dashboard_browser import OBJECT, Dashboard, browser, open_review, pictured, shown

from schema.engine import connect_engine


def team(db: str, people: int, grades: int) -> dict[str, Any]:
    """Reviewers at once, each in a browser, with the server killed and started again in the middle."""
    failed: list[str] = []
    half = threading.Barrier(people + 1)
    done: list[int] = []
    board = Dashboard(db)
    began = time.perf_counter()

    def work(k: int) -> None:
        waited = False
        try:
            with browser() as chrome:
                page = chrome.new_page(viewport={"width": 1200, "height": 800})
                page.set_default_timeout(120_000)
                page.goto(board.url)
                page.get_by_label("Name").fill(f"reviewer {k}")
                page.get_by_label("Passphrase").fill(f"passphrase {k}")
                page.get_by_role("button", name="Sign in").click()
                page.wait_for_selector(OBJECT)
                url = f"{board.url}/?order=shuffled&hide_enough=0&seed={k}"
                open_review(page, url)
                for n in range(grades):
                    if n == grades // 2:
                        half.wait(600)
                        waited = True
                    _one_grade(page, url, "1234"[(n + k) % 4])
                done.append(k)
        except BaseException as exc:
            failed.append(f"reviewer {k}: {type(exc).__name__}: {str(exc)[:300]}")
            if not waited:
                half.abort()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(people)]
    for t in threads:
        t.start()
    try:
        half.wait(3600)
        time.sleep(0.3)  # in the middle of everyone's next keystroke
        board.stop(kill=True)
        time.sleep(1)
        board.start()
    except threading.BrokenBarrierError:
        failed.append("not everyone came to the middle")
    for t in threads:
        t.join()
    seconds = time.perf_counter() - began
    board.stop()
    with connect_engine(db, read_only=True).connect() as conn:
        query = """
            select reviewer, count(*), count(distinct target_id) from current_grade group by reviewer order
            by reviewer"""
        counts = {r[0]: (int(r[1]), int(r[2])) for r in conn.execute(sa.text(query))}
        total, tokens = conn.execute(sa.text("select count(*), count(distinct grade_id) from grade")).one()
    return {
        "reviewers": people,
        "grades_each": grades,
        "standing": counts,
        "rows": total,
        "distinct": tokens,
        "failed": failed,
        "seconds": round(seconds, 1),
        "grades_per_s": round(people * grades / seconds, 1),
    }


def _one_grade(page: Any, url: str, key: str) -> None:
    """Press when the pictures are there, until another object is on screen, as a person does."""
    before = shown(page)
    until = time.monotonic() + 180
    while True:
        try:
            pictured(page, 20_000)
            page.keyboard.press(key)
            page.wait_for_function(
                "(old) => { const o = document.querySelector('#lm-object'); return o && o.dataset.target !=="
                " old; }",
                arg=before,
                timeout=20_000,
                polling=50,  # a look at every frame makes eight browsers draw frames all the time
            )
            return
        except Exception:
            if time.monotonic() > until:
                raise
            try:
                now = open_review(page, url)
            except Exception:
                continue  # the server is not back yet
            if now != before:
                return  # the grade was saved, only the answer was lost
