"""Addresses that the server answers beside the pages: pictures, and the end of a local sign-in."""

from __future__ import annotations

from typing import Any

from dashboard import pictures
from dashboard.settings import Settings
from dashboard.signing import sign, unsign
from schema.errors import LensmineError, UserError

COOKIE = "lensmine_reviewer"
COOKIE_PURPOSE = "reviewer"
TICKET_PURPOSE = "ticket"
MONTH_S = 30 * 24 * 3600
ENTER, LEAVE = "sign-in", "sign-out"


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
            who = unsign(settings.secret, TICKET_PURPOSE, request.query_params.get("ticket", ""))
        except UserError as exc:
            return Response(str(exc), status_code=403, media_type="text/plain")
        home.set_cookie(
            COOKIE,
            sign(settings.secret, COOKIE_PURPOSE, who),
            max_age=MONTH_S,
            httponly=True,
            samesite="lax",
            path=base or "/",
            secure=request.url.scheme == "https",
        )
        return home

    async def leave(request: Request) -> Response:
        home = RedirectResponse(f"{base}/", status_code=303)
        home.delete_cookie(COOKIE, path=base or "/")
        return home

    return [
        Route(f"{base}/{pictures.PATH}/{{recipe}}", picture),
        Route(f"{base}/{ENTER}", enter),
        Route(f"{base}/{LEAVE}", leave),
    ]
