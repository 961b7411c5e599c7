"""The services of a shared installation, as `osteo up` starts them; a test checks `infra/compose.yaml` against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class SharedService:
    """One service.

    Attributes:
        port: Preferred port on loopback; None if nothing outside connects to it.
        health: Path that answers 200 once the service is ready; empty if it has no HTTP.
        after: Services that must be ready before it starts.
    """

    port: int | None
    health: str = ""
    after: tuple[str, ...] = ()


SERVICES: Final[Mapping[str, SharedService]] = {
    "postgres": SharedService(5432),
    "s3": SharedService(8333, "/status"),
    "mlflow": SharedService(5000, "/health", ("postgres", "s3")),
    "prefect": SharedService(4200, "/api/health", ("postgres",)),
    "ray-head": SharedService(6379),
    "ray-worker": SharedService(None, after=("ray-head",)),
}
PORTS: Final = {name: service.port for name, service in SERVICES.items() if service.port is not None}
HEALTH: Final = {name: service.health for name, service in SERVICES.items() if service.health}
