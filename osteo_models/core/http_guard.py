"""What stands before a server of the cluster profile: no foreign Host, no page of a foreign site, no stranger.

Neither MLflow nor Prefect looks at all of these by itself: Prefect asks for credentials below `/api` alone and at
neither Host nor Origin; MLflow answers reading calls of foreign pages.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# What watches a server holds no credentials, and learns nothing but that it is up.
HEALTH: Final = ("/api/health", "/api/ready")


def guard(app: ASGIApp, hosts: Collection[str], credentials: str | None = None) -> ASGIApp:
    """Put an application behind the guard.

    Args:
        app: What answers those who may ask.
        hosts: Names that the server goes by, without ports; pages of other hosts, and of other ports, are foreign.
        credentials: USER:PASSWORD, asked for at every route but the health checks; None where `app` asks itself.
    """

    async def refuse_strangers(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if _is_foreign(headers, hosts):
            await PlainTextResponse("foreign origin", 403)(scope, receive, send)
        # By WebSocket the credentials come with the first message, and the application checks them.
        elif (
            credentials is None
            or scope["type"] == "websocket"
            or scope["path"] in HEALTH
            or _knows(headers, credentials)
        ):
            await app(scope, receive, send)
        else:
            asked = {"WWW-Authenticate": 'Basic realm="osteo"'}
            await PlainTextResponse("credentials are needed", 401, asked)(scope, receive, send)

    return TrustedHostMiddleware(refuse_strangers, allowed_hosts=list(hosts), www_redirect=False)


def _is_foreign(headers: Headers, hosts: Collection[str]) -> bool:
    """Whether a page of another site, or of another server of this machine, makes the call; a link to here may."""
    origin = headers.get("origin")
    if origin is None:  # as for pictures and scripts; browsers say for them whose page it is
        embedded = headers.get("sec-fetch-mode", "navigate") != "navigate"
        return embedded and headers.get("sec-fetch-site") in ("cross-site", "same-site")
    try:
        page, asked = urlsplit(origin), urlsplit(f"//{headers.get('host', '')}")
        return page.hostname not in hosts or page.port != asked.port
    except ValueError:  # no address at all
        return True


def _knows(headers: Headers, credentials: str) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    try:
        decoded = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(decoded, credentials.encode())
