"""The cluster launcher's file and those of KubeRay: valid, pinned, with token authentication."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from osteo_models import __version__
from tests.conftest import ROOT
from tests.infra.kuberay import ClusterSpec, RayCluster, RayJob


def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "infra" / name).read_text(encoding="utf-8"))


LAUNCHER = _read("ray-cluster.yaml")
CLUSTER = RayCluster.model_validate(_read("kuberay-cluster.yaml")).spec
JOB = RayJob.model_validate(_read("kuberay-job.yaml")).spec
IMAGE = f"osteo-models:{__version__}-cuda"


def test_the_launchers_file_is_what_ray_takes() -> None:
    prepared = prepare_config(LAUNCHER)
    validate_config(prepared)  # against Ray's own schema
    (node,) = prepared["available_node_types"].values()
    assert node["max_workers"] == len(LAUNCHER["provider"]["worker_ips"]) == 2
    assert LAUNCHER["docker"]["image"] == IMAGE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_mount": {}}, "'file_mount' was unexpected"),
        ({"docker": {"imag": "x"}}, "'imag' was unexpected"),
        ({"provider": {}}, "'type' is a required property"),
    ],
)
def test_rays_schema_refuses(change: dict, message: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=message):
        validate_config(prepare_config(LAUNCHER | change) if "provider" not in change else LAUNCHER | change)


def test_the_launcher_brings_the_token_and_asks_for_it() -> None:
    assert "--env RAY_AUTH_MODE=token" in LAUNCHER["docker"]["run_options"]
    assert LAUNCHER["file_mounts"] == {"/home/osteo/.ray/auth_token": "~/.ray/auth_token"}
    for commands in (LAUNCHER["head_start_ray_commands"], LAUNCHER["worker_start_ray_commands"]):
        stopped, locked, started = commands
        assert (stopped, locked) == ("ray stop", "chmod 600 ~/.ray/auth_token")
        assert started.startswith("ray start ")
    assert "--dashboard-host=127.0.0.1" in LAUNCHER["head_start_ray_commands"][-1]


@pytest.mark.parametrize("spec", [CLUSTER, JOB.rayClusterSpec], ids=["cluster", "job"])
def test_kuberay_asks_for_the_token(spec: ClusterSpec) -> None:
    assert spec.authOptions.mode == "token"
    assert spec.rayVersion == version("ray") >= "2.52"
    assert spec.headGroupSpec.serviceType == "ClusterIP"
    pods = [spec.headGroupSpec.template.spec, *(group.template.spec for group in spec.workerGroupSpecs)]
    for pod in pods:
        assert pod.securityContext.runAsNonRoot and not pod.automountServiceAccountToken
        for container in pod.containers:
            assert container.image == IMAGE
            assert container.securityContext.capabilities.drop == ["ALL"]
            assert not [item.name for item in container.env if item.name.endswith(("PASSWORD", "TOKEN", "STRING"))]


def test_the_job_runs_on_a_node_of_ray() -> None:
    """KubeRay's submitter hands the entrypoint to the head; `InteractiveMode` would leave the driver outside."""
    assert JOB.submissionMode == "K8sJobMode"
    environment = {item.name: item.value for item in JOB.rayClusterSpec.headGroupSpec.template.spec.containers[0].env}
    assert "RAY_ADDRESS" not in environment  # Ray tells its jobs
    assert environment["OSTEO_JOURNAL_URI"] == "postgresql+psycopg://journal@postgres:5432/journal"


def test_trials_hold_no_keys_of_the_stores() -> None:
    head, (workers,) = JOB.rayClusterSpec.headGroupSpec, JOB.rayClusterSpec.workerGroupSpecs
    assert [source.secretRef.name for source in head.template.spec.containers[0].envFrom] == ["osteo-clients"]
    assert workers.template.spec.containers[0].envFrom == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "authOptions", "mode"), "password"),
        (("spec", "authOption"), {}),
        (("apiVersion",), "ray.io/v1alpha1"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "workerGroupSpecs", 0, "replicas"), 99),
        (("spec", "workerGroupSpecs", 0, "template", "spec", "volumes"), []),
    ],
)
def test_the_fields_of_kuberay_are_checked(path: tuple, value: Any) -> None:
    """Against a subset of its CRD, written by hand: see kuberay.py."""
    broken = _read("kuberay-cluster.yaml")
    place: Any = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValidationError):
        RayCluster.model_validate(broken)
