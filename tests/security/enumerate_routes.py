"""Prints the routes of the application that a server serves, one JSON list a line: kind, methods, path.

Run with the environment of the server's own process: `python enumerate_routes.py mlflow|prefect`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any


def _walk(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, list[str], str]]:
    for route in routes:
        path, below = prefix + getattr(route, "path", ""), getattr(route, "app", None)
        flask = getattr(below, "app", None)
        if hasattr(flask, "url_map"):
            for rule in flask.url_map.iter_rules():
                yield "http", sorted(rule.methods - {"HEAD", "OPTIONS"}), prefix + rule.rule
        elif type(route).__name__ == "Mount":
            inner = getattr(_unwrap(below), "routes", None)
            yield from _walk(inner, path) if inner is not None else [("http", ["GET"], f"{path}/any-file")]
        elif "WebSocket" in type(route).__name__:
            yield "websocket", [], path
        elif getattr(route, "methods", None):
            yield "http", sorted(route.methods - {"HEAD"}), path
        elif getattr(route, "original_router", None) is not None:  # a router that is joined when it is first asked
            yield from _walk(route.original_router.routes, prefix + route.include_context.prefix)
        else:
            raise TypeError(f"an unknown kind of route: {route!r}")


def _unwrap(app: Any) -> Any:
    while not hasattr(app, "routes") and hasattr(app, "app"):
        app = app.app
    return app


if __name__ == "__main__":
    if sys.argv[1] == "mlflow":
        from mlflow.server.auth import create_app
    else:
        from prefect.server.api.server import create_app  # what the guard stands before
    for found in _walk(create_app().routes):
        sys.stdout.write(json.dumps(found) + "\n")
