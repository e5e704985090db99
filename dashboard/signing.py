"""Signed text: what the browser hands back must be what the server gave out."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from typing import Any

from schema.errors import UserError


def sign(secret: bytes, purpose: str, payload: Any) -> str:
    """Payload as text for an address or a cookie, with a signature that only this purpose accepts."""
    body = zlib.compress(json.dumps(payload, sort_keys=True, separators=(",", ":")).encode(), 6)
    return f"{_text(body)}.{_text(_digest(secret, purpose, body))}"


def unsign(secret: bytes, purpose: str, text: str) -> Any:
    """Payload of a signed text.

    Raises
    ------
    UserError
        When the text was not signed here for this purpose.
    """
    head, _, tail = text.partition(".")
    try:
        body, given = _bytes(head), _bytes(tail)
    except ValueError:
        body, given = b"", b""
    if not hmac.compare_digest(given, _digest(secret, purpose, body)):
        raise UserError("this address was not made by this dashboard; load the page again")
    return json.loads(zlib.decompress(body))


def _digest(secret: bytes, purpose: str, body: bytes) -> bytes:
    return hmac.new(secret, purpose.encode() + b"\0" + body, hashlib.sha256).digest()[:16]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
