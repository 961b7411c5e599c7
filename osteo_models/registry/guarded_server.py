"""MLflow's server with accounts, behind the guard: `mlflow server --app-name osteo`."""

from __future__ import annotations

from mlflow.server.auth import create_app as create_mlflow
from starlette.types import ASGIApp

from osteo_models.core.http_guard import guard
from osteo_models.core.settings import load_settings


def create_app() -> ASGIApp:
    """MLflow's application of the name `basic-auth`, which asks for user and password itself, behind the guard."""
    return guard(create_mlflow(), load_settings().allowed_hosts)  # pyright: ignore[reportArgumentType]
