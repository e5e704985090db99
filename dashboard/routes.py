"""Addresses that the server answers beside the pages: pictures, and the end of a local sign-in."""

from __future__ import annotations

import time
from typing import Any

from dashboard import pictures
from dashboard.settings import Settings
from dashboard.signing import sign, unsign
from schema.errors import LensmineError, UserError

COOKIE_PURPOSE = "reviewer"
TICKET_PURPOSE = "ticket"
MONTH_S = 30 * 24 * 3600
TICKET_S = 120
"""A ticket goes from one answer of the server to the next request of the browser [s]."""
ENTER, LEAVE = "sign-in", "sign-out"


def pass_for(settings: Settings, purpose: str, name: str) -> str:
    """A signed ticket or cookie of a local reviewer, good for this database alone and from now on."""
    return sign(settings.secret, purpose, {"name": name, "at": int(time.time()), "of": settings.audience})


def name_of(settings: Settings, purpose: str, text: str) -> str:
    """Whose ticket or cookie it is.

    Raises
    ------
    UserError
        When it was not made here for this purpose and database, or is too old.
    """
    found = unsign(settings.secret, purpose, text)
    most = TICKET_S if purpose == TICKET_PURPOSE else MONTH_S
    if found.get("of") != settings.audience or not 0 <= time.time() + 5 - found["at"] <= most + 5:
        raise UserError("this sign-in has expired or is another database's; go to the first page and sign in")
    return str(found["name"])


def picture_routes(settings: Settings) -> list[Any]:
    """Routes to hand to the server."""
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import RedirectResponse, Response
    from starlette.routing import Route

    base = f"/{settings.base}" if settings.base else ""

    async def picture(request: Request) -> Response:
        try:
            data, kind = await run_in_threadpool(pictures.picture, settings, request.path_params["recipe"])
        except LensmineError as exc:
            status = 404 if not isinstance(exc, UserError) else 403
            return Response(str(exc), status_code=status, media_type="text/plain")
        headers = {
            "Cache-Control": "private, max-age=86400, immutable",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(data, media_type=kind, headers=headers)

    async def enter(request: Request) -> Response:
        home = RedirectResponse(f"{base}/", status_code=303)
        try:
            who = name_of(settings, TICKET_PURPOSE, request.query_params.get("ticket", ""))
        except UserError as exc:
            return Response(str(exc), status_code=403, media_type="text/plain")
        home.set_cookie(
            settings.cookie,
            pass_for(settings, COOKIE_PURPOSE, who),
            max_age=MONTH_S,
            httponly=True,
            samesite="lax",
            path=base or "/",
            secure=request.url.scheme == "https",
        )
        return home

    async def leave(request: Request) -> Response:
        home = RedirectResponse(f"{base}/", status_code=303)
        home.delete_cookie(settings.cookie, path=base or "/")
        return home

    return [
        Route(f"{base}/{pictures.PATH}/{{recipe}}", picture),
        Route(f"{base}/{ENTER}", enter),
        Route(f"{base}/{LEAVE}", leave),
    ]
