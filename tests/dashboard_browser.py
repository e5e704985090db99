"""A running dashboard and a real Chromium for tests and benchmarks."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from schema.engine import connect_engine

OBJECT = "#lm-object"
NO_CHROMIUM = "no Chromium: apt-get install chromium, or set CHROMIUM to its path"
WAIT_MS = 120_000
"""A page may take so long on a machine that is busy with other work [ms]."""


def chromium() -> str | None:
    """Path of an installed Chromium; CHROMIUM names another."""
    given = os.environ.get("CHROMIUM")
    return (
        given or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    )


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Dashboard:
    """``lensmine dashboard`` as a process of its own."""

    def __init__(
        self,
        db: str,
        *options: str,
        port: int | None = None,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.cwd = cwd
        self.db, self.options, self.port = db, options, port or free_port()
        self.env = {**os.environ, **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Address of the first page."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            sys.executable,
            "-m",
            "lensmine",
            "dashboard",
            "--db",
            self.db,
            "--no-open",
            "--port",
            str(self.port),
        ]
        self.process = subprocess.Popen(
            [*command, *self.options],
            env=self.env,
            cwd=self.cwd,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2).read()
                return
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(f"the dashboard ended with code {self.process.returncode}") from None
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def stop(self, *, kill: bool = False) -> None:
        """End it, politely or not."""
        if self.process is not None:
            if kill:
                self.process.kill()
            else:
                self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


@contextlib.contextmanager
def serving(db: str, *options: str, **how: Any) -> Iterator[Dashboard]:
    """A dashboard for the length of a block."""
    board = Dashboard(db, *options, **how)
    try:
        yield board
    finally:
        board.stop()


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        # --no-sandbox: Chromium's sandbox refuses to run as root, as in a container
        made = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            yield made
        finally:
            made.close()


def wide_page(chrome: Any, **how: Any) -> Any:
    """A page of a visitor with no cookies yet."""
    made = chrome.new_context(viewport={"width": 1500, "height": 1000}, **how).new_page()
    made.set_default_timeout(WAIT_MS)
    return made


@contextlib.contextmanager
def lone_page() -> Iterator[Any]:
    """A page of a browser of its own."""
    with browser() as chrome:
        yield wide_page(chrome)


def rows(db: str, query: str) -> list[tuple[Any, ...]]:
    """What a query finds while a dashboard runs on the database."""
    with connect_engine(db, read_only=True).connect() as conn:
        return [tuple(r) for r in conn.execute(sa.text(query))]


def standing(db: str) -> list[tuple[str, str]]:
    """Target and grade of the grades that stand, as they came."""
    query = "select target_id, grade from grade where undone_at is null order by graded_at"
    return [(str(t), g) for t, g in rows(db, query)]


def open_review(page: Any, url: str) -> str:
    """Open the review page and wait for its object; returns its target."""
    page.goto(url)
    page.wait_for_selector(OBJECT, timeout=WAIT_MS)
    settled(page)
    page.wait_for_timeout(700)  # the keys of the buttons are bound after they are drawn
    return shown(page)


def shown(page: Any) -> str:
    """Target on screen."""
    return str(page.locator(OBJECT).get_attribute("data-target"))


def pictured(page: Any, timeout: int = WAIT_MS) -> str:
    """Wait until the pictures of the object on screen are drawn, as a person does; returns its target."""
    page.wait_for_function(
        "() => { const o = document.querySelector('#lm-object');"
        " const parts = [...document.querySelectorAll('.lm-of')];"
        " const images = [...document.querySelectorAll('#lm-spectrum, .lm-stamp')];"
        " return o && parts.length && parts.every((e) => e.dataset.target === o.dataset.target)"
        " && images.every((i) => i.complete); }",
        timeout=timeout,
        polling=50,
    )
    return shown(page)


def settled(page: Any) -> None:
    """Wait until the server has finished drawing."""
    page.wait_for_function(
        "() => { const a = document.querySelector('[data-testid=stApp]');"
        " return a && a.getAttribute('data-test-script-state') === 'notRunning'; }",
        timeout=WAIT_MS,
    )


def press(page: Any, key: str, before: str) -> str:
    """Press a key and wait for another object; returns it."""
    page.keyboard.press(key)
    page.wait_for_function(
        "(old) => { const o = document.querySelector('#lm-object'); return o && o.dataset.target !== old; }",
        arg=before,
        timeout=WAIT_MS,
    )
    return shown(page)
