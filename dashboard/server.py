"""Starts the dashboard: Streamlit's pages and our routes in one server."""

from __future__ import annotations

import contextlib
import importlib
import threading
from pathlib import Path
from typing import Any

from dashboard.settings import Settings, use

SCRIPT = Path(__file__).parent / "entry" / "lensmine_app.py"
OPTIONS: dict[str, Any] = {
    "server.fileWatcherType": "none",
    "server.runOnSave": False,
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "none",
    "theme.base": "light",
    "theme.primaryColor": "#0b57a4",
    "server.enableXsrfProtection": True,
}
"""Options of Streamlit that a --option of the command and config.toml do not change."""


def build(settings: Settings) -> Any:
    """The ASGI application."""
    from dashboard.routes import picture_routes

    use(settings)
    from streamlit.starlette import App

    return App(SCRIPT, routes=picture_routes(settings))


def serve(settings: Settings, *, address: str, port: int, headless: bool) -> None:
    """Serve until stopped."""
    app = build(settings)
    threading.Thread(target=_warm, args=(settings,), daemon=True).start()
    app.run(
        config={
            **OPTIONS,
            "server.address": address,
            "server.port": port,
            "server.headless": headless,
            "server.baseUrlPath": settings.base,
        }
    )


def _warm(settings: Settings) -> None:
    """Do once, while nobody waits, what the first page needs; what is wrong is said by the page."""
    with contextlib.suppress(Exception):
        for name in ("pages.review", "spectra", "stamps"):
            importlib.import_module(f"dashboard.{name}")
        from dashboard.queues import QueueSpec
        from dashboard.session import ReviewSession
        from dashboard.shell import check_database
        from dashboard.store import Reviewer

        check_database(settings)
        session = ReviewSession(settings.db, Reviewer(0, "", False), QueueSpec())  # reads only
        if session.current is not None:
            session.object(session.current.target_id)
