"""compose.yaml: what the specification allows, on loopback, pinned, and without a secret in it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from osteo_models import __version__
from tests.conftest import ROOT
from tests.infra.compose import Compose, Granted, UnsetVariable, interpolate, parse_compose

FOLDER = ROOT / "infra"
RAW: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
NAMES = re.findall(r"^(\w+)=$", (FOLDER / ".env.example").read_text(encoding="utf-8"), flags=re.MULTILINE)
SET = {name: f"value-of-{name.lower()}" for name in NAMES} | {"OSTEO_VERSION": __version__}
SECRETS = {secret["environment"] for secret in RAW["secrets"].values()}


@pytest.fixture(scope="module")
def compose() -> Compose:
    return parse_compose(RAW, SET)


def test_the_profiles_are_there(compose: Compose) -> None:
    profiles: dict[str, set[str]] = {}
    for name, service in compose.services.items():
        for profile in service.profiles:
            profiles.setdefault(profile, set()).add(name)
    assert profiles == {
        "core": {"postgres", "databases", "s3", "bucket", "mlflow"},
        "flow": {"prefect", "flow-worker"},
        "ray": {"ray-head", "ray-worker"},
        "optuna-dashboard": {"optuna-dashboard"},
    }


@pytest.mark.parametrize(
    "change",
    [
        {"port": ["127.0.0.1:1:1"]},  # a key misspelt
        {"ports": ["127.0.0.1:5000"]},
        {"healthcheck": {"test": ["CMD", "true"], "interval": "5", "timeout": "3s", "retries": 3}},
        {"depends_on": {"postgres": {"condition": "service_ready"}}},
        {"environment": {"A": 1}},
    ],
)
def test_the_schema_refuses(change: dict) -> None:
    broken = RAW | {"services": RAW["services"] | {"mlflow": RAW["services"]["mlflow"] | change}}
    with pytest.raises(ValidationError):
        parse_compose(broken, SET)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_a_start_refuses_what_is_unset_or_empty(name: str, value: str | None) -> None:
    environ = {key: item for key, item in SET.items() if key != name}
    if value is not None:
        environ[name] = value
    with pytest.raises(UnsetVariable, match=rf"^{name}: set it"):
        parse_compose(RAW, environ)


def test_each_secret_is_required_and_none_has_a_default() -> None:
    required = {found.group(1) for line in RAW["x-required"] if (found := re.fullmatch(r"\$\{(\w+):\?.+\}", line))}
    assert required == SECRETS
    assert set(NAMES) >= SECRETS
    assert not re.search(r"\$\{\w+:?-", yaml.safe_dump(RAW))


def test_secrets_reach_a_container_as_files_alone(compose: Compose) -> None:
    values = {SET[name] for name in SECRETS}
    for name, service in compose.services.items():
        shown = yaml.safe_dump(service.model_dump(exclude={"secrets"}))
        assert not [value for value in values if value in shown], name
        granted = [each.source if isinstance(each, Granted) else each for each in service.secrets]
        assert set(granted) <= set(compose.secrets), name
        assert all(each.mode == 0o400 for each in service.secrets if isinstance(each, Granted)), name
    assert {each.source for each in compose.services["ray-worker"].secrets if isinstance(each, Granted)} == {
        "ray_token"
    }


def test_no_secret_stands_in_any_file() -> None:
    """Passwords, tokens and keys are names of variables or of files, never words."""
    literal = re.compile(
        r"(?i)(password|secret_key|secret|token|auth_string)['\"]?\s*[:=]\s*['\"]?[A-Za-z0-9+/]{6,}['\"]?\s*$"
    )
    allowed = ("mode: token",)
    for path in sorted(path for path in FOLDER.iterdir() if path.is_file()):
        for line in path.read_text(encoding="utf-8").splitlines():
            found = literal.search(line)
            assert not found or any(word in line for word in allowed) or "/run/secrets" in line, f"{path.name}: {line}"
    assert literal.search("POSTGRES_PASSWORD: hunter2hunter2")
    example = (FOLDER / ".env.example").read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("#") or line.endswith("=") for line in example)


def test_every_port_is_published_on_loopback(compose: Compose) -> None:
    ports = [port for service in compose.services.values() for port in service.ports]
    assert len(ports) >= 6
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_every_image_is_pinned(compose: Compose) -> None:
    images = {service.image for service in compose.services.values()}
    assert images - {f"osteo-models:{__version__}"}
    for image in images - {f"osteo-models:{__version__}"}:
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?@sha256:[0-9a-f]{64}", image), image


def test_what_stays_up_has_a_health_check_and_what_waits_waits_for_a_thing(compose: Compose) -> None:
    for name, service in compose.services.items():
        once = service.restart == "no"
        assert once or service.healthcheck or name in ("flow-worker", "ray-worker"), name
        for other, dependency in service.depends_on.items():
            assert other in compose.services, name
            if dependency.condition == "service_healthy":
                assert compose.services[other].healthcheck, f"{name} waits for {other}"
            if dependency.condition == "service_completed_successfully":
                assert compose.services[other].restart == "no", f"{name} waits for {other}"


def test_mounted_files_are_there(compose: Compose) -> None:
    for service in compose.services.values():
        for volume in service.volumes:
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (FOLDER / source).is_file()
                assert (FOLDER / source).stat().st_mode & 0o111, f"{source} must be executable"
            elif not source.startswith("value-of"):
                assert source in compose.volumes


def test_interpolation() -> None:
    found = interpolate({"a": ["${A}", "$$A", "${B-x}", "${B:-y}", "${A?no}", 3]}, {"A": "1", "B": ""})
    assert found == {"a": ["1", "$A", "", "y", "1", 3]}
    with pytest.raises(UnsetVariable, match="C: no"):
        interpolate("${C?no}", {})
