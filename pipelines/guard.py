"""Prefect's server behind a guard: `python -m uvicorn --factory pipelines.guard:create_app`.

Prefect asks for credentials below `/api` alone and looks neither at Host nor at Origin. The guard asks for them at
every route but the health checks, with the same user and password, and lets no page of a foreign site in, by HTTP or
WebSocket.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final
from urllib.parse import urlsplit

from prefect.server.api.server import create_app as create_prefect
from prefect.settings import PREFECT_SERVER_API_AUTH_STRING
from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from osteo_models.errors import InputError
from osteo_models.settings import load_settings

# What watches a server holds no credentials, and learns nothing but that it is up.
HEALTH: Final = ("/api/health", "/api/ready")


def create_app() -> ASGIApp:
    """Prefect's application behind the guard.

    Raises:
        InputError: There are no credentials to ask for.
    """
    credentials = PREFECT_SERVER_API_AUTH_STRING.value()
    if not credentials:
        where = "PREFECT_SERVER_API_AUTH_STRING"
        raise InputError("not set", where=where, allowed="USER:PASSWORD", remedy="set it in the server's environment")
    return guard(create_prefect(final=True), credentials, load_settings().allowed_hosts)


def guard(app: ASGIApp, credentials: str, hosts: tuple[str, ...]) -> ASGIApp:
    """Put an application behind the guard.

    Args:
        app: What answers those who may ask.
        credentials: USER:PASSWORD.
        hosts: Names that the server goes by, without ports; pages of other hosts are foreign.
    """

    async def refuse_strangers(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if (origin := headers.get("origin")) is not None and _host_of(origin) not in hosts:
            await PlainTextResponse("foreign origin", 403)(scope, receive, send)
        # By WebSocket the credentials come with the first message, and Prefect checks them.
        elif scope["type"] == "websocket" or scope["path"] in HEALTH or _knows(headers, credentials):
            await app(scope, receive, send)
        else:
            asked = {"WWW-Authenticate": 'Basic realm="prefect"'}
            await PlainTextResponse("credentials are needed", 401, asked)(scope, receive, send)

    return TrustedHostMiddleware(refuse_strangers, allowed_hosts=list(hosts), www_redirect=False)


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:  # no address at all
        return None


def _knows(headers: Headers, credentials: str) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    try:
        decoded = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(decoded, credentials.encode())
