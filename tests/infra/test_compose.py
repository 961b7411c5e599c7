"""compose.yaml: what the specification allows, on loopback, pinned, and without a secret in it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from jsonschema import ValidationError

from osteo_models import __version__
from osteo_models.ops.servers.credentials import DATABASES
from osteo_models.ops.servers.topology import SERVICES
from tests.conftest import ROOT
from tests.infra.compose import UnsetVariable, interpolate, read_compose
from tests.infra.conftest import NEEDS

FOLDER = ROOT / "infra"
RAW: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
NAMES = re.findall(r"^(\w+)=$", (FOLDER / ".env.example").read_text(encoding="utf-8"), flags=re.MULTILINE)
SET = {name: f"value-of-{name.lower()}" for name in NAMES} | {"OSTEO_VERSION": __version__}
SECRETS = {secret["environment"] for secret in RAW["secrets"].values()}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read_compose(RAW, SET)


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return compose["services"]


def _granted(service: dict[str, Any]) -> list[str]:
    return [each["source"] if isinstance(each, dict) else each for each in service.get("secrets", [])]


def test_the_profiles_are_there(services: dict[str, dict[str, Any]]) -> None:
    profiles: dict[str, set[str]] = {}
    for name, service in services.items():
        for profile in service["profiles"]:  # what has none would start with each of them
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
        {"ports": "127.0.0.1:1:1"},
        {"healthcheck": {"test": ["CMD", "true"], "intervals": "5s"}},
        {"depends_on": {"postgres": {"condition": "service_ready"}}},
        {"secrets": [{"source": "ray_token", "user": "1000"}]},
        {"environment": {"A": {}}},
    ],
)
def test_the_schema_refuses(change: dict) -> None:
    broken = RAW | {"services": RAW["services"] | {"mlflow": RAW["services"]["mlflow"] | change}}
    with pytest.raises(ValidationError):
        read_compose(broken, SET)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_a_start_refuses_what_is_unset_or_empty(name: str, value: str | None) -> None:
    environ = {key: item for key, item in SET.items() if key != name}
    if value is not None:
        environ[name] = value
    with pytest.raises(UnsetVariable, match=rf"^{name}: set it"):
        read_compose(RAW, environ)


def test_each_secret_is_required_and_none_has_a_default() -> None:
    required = {found.group(1) for line in RAW["x-required"] if (found := re.fullmatch(r"\$\{(\w+):\?.+\}", line))}
    assert required == SECRETS
    assert set(NAMES) >= SECRETS
    assert not re.search(r"\$\{\w+:?-", yaml.safe_dump(RAW))


def test_secrets_reach_a_container_as_files_alone(compose: dict[str, Any]) -> None:
    values, modes = {SET[name] for name in SECRETS}, []
    for name, service in compose["services"].items():
        shown = yaml.safe_dump({key: item for key, item in service.items() if key != "secrets"})
        assert not [value for value in values if value in shown], name
        assert set(_granted(service)) <= set(compose["secrets"]), name
        modes += [each["mode"] for each in service.get("secrets", []) if isinstance(each, dict)]
    assert set(modes) == {0o400}


def test_each_container_gets_what_its_server_needs_and_no_more(services: dict[str, dict[str, Any]]) -> None:
    granted = {name: sorted(_granted(service)) for name, service in services.items()}
    passwords = [f"{name}_database_password" for name in DATABASES]
    assert granted.pop("postgres") == ["postgres_password"]
    assert granted.pop("databases") == sorted(["postgres_password", *passwords])
    assert granted == {name: sorted(secrets) for name, secrets in NEEDS.items()}


def test_an_address_of_a_database_names_its_own_role(services: dict[str, dict[str, Any]]) -> None:
    environment = services["flow-worker"]["environment"]
    addresses = {name: urlsplit(environment[name]) for name in ("OSTEO_JOURNAL_URI", "OSTEO_SEARCH_STORAGE")}
    assert {name: (each.username, each.path) for name, each in addresses.items()} == {
        "OSTEO_JOURNAL_URI": ("journal", "/journal"),
        "OSTEO_SEARCH_STORAGE": ("optuna", "/optuna"),
    }
    assert {each.password for each in addresses.values()} == {None}


def test_what_writes_files_of_keys_has_them_in_memory(services: dict[str, dict[str, Any]]) -> None:
    writers = {
        name for name, service in services.items() if any(each.startswith("/keys") for each in service.get("tmpfs", []))
    }
    assert writers == {"s3", "mlflow", "prefect", "flow-worker", "optuna-dashboard"}


def test_what_runs_ray_has_shared_memory(services: dict[str, dict[str, Any]]) -> None:
    """Docker's own 64 MB are less than Ray's object store takes."""
    assert {name for name, service in services.items() if service.get("shm_size") == "4gb"} == {
        *("flow-worker", "ray-head", "ray-worker"),
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


def test_every_port_is_published_on_loopback(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) >= 6
    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []


def test_every_image_is_pinned(services: dict[str, dict[str, Any]]) -> None:
    images = {service["image"] for service in services.values()}
    assert images - {f"osteo-models:{__version__}"}
    for image in images - {f"osteo-models:{__version__}"}:
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?@sha256:[0-9a-f]{64}", image), image


def test_what_stays_up_has_a_health_check_and_what_waits_waits_for_a_thing(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        check = service.get("healthcheck")
        assert service["restart"] == "no" or check or name in ("flow-worker", "ray-worker"), name
        assert not check or all(re.fullmatch(r"\d+s", check[each]) for each in ("interval", "timeout")), name
        for other, dependency in service.get("depends_on", {}).items():
            assert other in services, name
            if dependency["condition"] == "service_healthy":
                assert services[other]["healthcheck"], f"{name} waits for {other}"
            if dependency["condition"] == "service_completed_successfully":
                assert services[other]["restart"] == "no", f"{name} waits for {other}"


def test_mounted_files_are_there(compose: dict[str, Any]) -> None:
    mounted = {
        volume.split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", [])
    }
    files = {source for source in mounted if source.startswith("./")}
    assert files
    for source in files:
        assert (FOLDER / source).is_file()
        assert (FOLDER / source).stat().st_mode & 0o111, f"{source} must be executable"
    named = {source for source in mounted - files if not source.startswith("value-of")}
    assert named and named <= set(compose["volumes"])


def test_interpolation() -> None:
    found = interpolate({"a": ["${A}", "$$A", "${B-x}", "${B:-y}", "${A?no}", 3]}, {"A": "1", "B": ""})
    assert found == {"a": ["1", "$A", "", "y", "1", 3]}
    with pytest.raises(UnsetVariable, match="C: no"):
        interpolate("${C?no}", {})


def _list_needed(services: dict[str, dict[str, Any]], name: str) -> set[str]:
    """Everything a service waits for, directly or not."""
    direct = set(services[name].get("depends_on", {}))
    return direct.union(*(_list_needed(services, other) for other in direct))


def test_the_local_cluster_and_compose_are_one_topology(services: dict[str, dict[str, Any]]) -> None:
    assert services.keys() >= SERVICES.keys()
    for name, service in SERVICES.items():
        published = [port.rpartition(":")[2] for port in services[name].get("ports", [])]
        if not name.startswith("ray"):  # whose port is the containers' own
            assert published == [str(service.port)], name
        if service.health and name != "s3":  # SeaweedFS has two such paths
            assert f":{service.port}{service.health}'" in services[name]["healthcheck"]["test"][-1], name
        assert _list_needed(services, name) >= set(service.after), name
