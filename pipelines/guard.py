"""Prefect's server behind the guard: `python -m uvicorn --factory pipelines.guard:create_app`."""

from __future__ import annotations

from prefect.server.api.server import create_app as create_prefect
from prefect.settings import PREFECT_SERVER_API_AUTH_STRING
from starlette.types import ASGIApp

from osteo_models.core.errors import InputError
from osteo_models.core.http_guard import guard
from osteo_models.core.settings import load_settings


def create_app() -> ASGIApp:
    """Prefect's application behind the guard, with the credentials that its own API asks for.

    Raises:
        InputError: There are no credentials to ask for.
    """
    credentials = PREFECT_SERVER_API_AUTH_STRING.value()
    if not credentials:
        where = "PREFECT_SERVER_API_AUTH_STRING"
        raise InputError("not set", where=where, allowed="USER:PASSWORD", remedy="set it in the server's environment")
    return guard(create_prefect(final=True), load_settings().allowed_hosts, credentials)
