"""The part of the Compose specification that compose.yaml uses; a key that is not here is a fault.

Written from the specification (services, secrets, interpolation), which no installed package carries as a schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Duration = Annotated[str, StringConstraints(pattern=r"^(\d+(us|ms|s|m|h))+$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]+$")]
Port = Annotated[str, StringConstraints(pattern=r"^((\d{1,3}\.){3}\d{1,3}:)?\d{1,5}:\d{1,5}(/(tcp|udp))?$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Granted(_Strict):
    """A secret that a service gets."""

    source: Name
    target: str | None = None
    uid: str | None = None
    gid: str | None = None
    mode: int = Field(default=0o400, ge=0, le=0o777)


class HealthCheck(_Strict):
    test: list[str] = Field(min_length=2)
    interval: Duration
    timeout: Duration
    retries: int = Field(ge=1)


class Dependency(_Strict):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]
    required: bool = True
    restart: bool = False


class Deploy(_Strict):
    replicas: int = Field(ge=0)


class Service(_Strict):
    image: str
    profiles: list[Name] = Field(min_length=1)
    entrypoint: list[str] | None = None
    command: list[str] | None = None
    restart: Literal["no", "always", "on-failure", "unless-stopped"] = "no"
    init: bool = False
    cap_drop: list[str] = []
    security_opt: list[str] = []
    working_dir: str | None = None
    environment: dict[str, str] = {}
    secrets: list[Name | Granted] = []
    volumes: list[str] = []
    tmpfs: list[str] = []
    shm_size: str | None = None
    ports: list[Port] = []
    healthcheck: HealthCheck | None = None
    depends_on: dict[Name, Dependency] = {}
    deploy: Deploy | None = None


class Secret(_Strict):
    environment: str


class Compose(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name
    services: dict[Name, Service]
    secrets: dict[Name, Secret]
    volumes: dict[Name, dict[str, Any] | None]


class UnsetVariable(ValueError):
    """A variable that the file requires is unset or empty."""


_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:?[-?])([^}]*))?\})")


def interpolate(value: Any, environ: Mapping[str, str]) -> Any:
    """Put in variables as Compose does, extensions included: `${A}`, `${A-x}`, `${A:-x}`, `${A?x}`, `${A:?x}`, `$$`."""
    if isinstance(value, dict):
        return {key: interpolate(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, environ) for item in value]
    return _VARIABLE.sub(lambda found: _put_in(found, environ), value) if isinstance(value, str) else value


def _put_in(found: re.Match[str], environ: Mapping[str, str]) -> str:
    dollar, name, operator, rest = found.groups()
    if dollar:
        return "$"
    given = environ.get(name)
    missing = given is None or (bool(operator) and operator.startswith(":") and not given)
    if not missing:
        return given or ""
    if operator and operator.endswith("?"):
        raise UnsetVariable(f"{name}: {rest}")
    return rest if operator else ""


def parse_compose(raw: Mapping[str, Any], environ: Mapping[str, str]) -> Compose:
    """The file as Compose would start it."""
    put_in = interpolate(dict(raw), environ)
    return Compose.model_validate({key: item for key, item in put_in.items() if not key.startswith("x-")})
