"""prefect.yaml: what Prefect takes, entry points that import, parameters that the flows accept."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import ValidationError, validate

from pipelines.reconcile import tag_flow_run
from tests.conftest import ROOT

RAW: dict[str, Any] = yaml.safe_load((ROOT / "infra" / "prefect.yaml").read_text(encoding="utf-8"))
CONFIG = PrefectYamlModel.model_validate(RAW)
DEPLOYMENTS = {deployment.name: deployment for deployment in CONFIG.deployments}


@pytest.fixture(scope="module")
def flows() -> dict[str, Flow]:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(ROOT)
        warnings.simplefilter("ignore")  # importing both, Prefect's tables have MLflow's made too, which are outdated
        return {name: load_flow_from_entrypoint(str(each.entrypoint)) for name, each in DEPLOYMENTS.items()}


def _schema(flow: Flow) -> dict[str, Any]:
    return parameter_schema(flow).model_dump_for_openapi()


def test_prefect_knows_every_key() -> None:
    """Prefect's model ignores what it does not know: a misspelt key would be silence."""
    assert set(RAW) - {"definitions"} <= set(PrefectYamlModel.model_fields)
    for raw in RAW["deployments"]:
        assert set(raw) <= set(DeploymentConfig.model_fields), raw["name"]


def test_the_deployments_and_when_they_run(flows: dict[str, Flow]) -> None:
    assert {name: flow.name for name, flow in flows.items()} == {
        "nightly": "reproduce",
        "search": "stages",
        "manual": "promote",
        "folder": "score",
    }
    assert {name: [s.cron for s in each.schedules or []] for name, each in DEPLOYMENTS.items()} == {
        "nightly": ["0 2 * * *"],
        "search": [],
        "manual": [],
        "folder": [],
    }
    assert {each.work_pool.name for each in CONFIG.deployments if each.work_pool} == {"osteo"}


def test_each_names_its_process(flows: dict[str, Flow]) -> None:
    assert {name: flow.on_running_hooks for name, flow in flows.items()} == {
        name: [tag_flow_run] for name in DEPLOYMENTS
    }


def test_one_promotion_at_a_time() -> None:
    limit = DEPLOYMENTS["manual"].concurrency_limit
    assert (limit.limit, ConcurrencyLimitStrategy(limit.collision_strategy)) == (1, ConcurrencyLimitStrategy.ENQUEUE)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_parameters_are_those_of_the_flow(name: str, flows: dict[str, Flow]) -> None:
    schema, given = _schema(flows[name]), DEPLOYMENTS[name].parameters
    assert set(given) <= set(schema["properties"])
    missing = set(schema.get("required", [])) - set(given)
    assert missing == ({"folder"} if name == "folder" else set())  # each start says which
    complete = given | dict.fromkeys(missing, "scans")
    validate(complete, schema, raise_on_error=True)
    flows[name].validate_parameters(complete)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_every_parameter_has_a_type_and_a_description(name: str, flows: dict[str, Flow]) -> None:
    parameters = inspect.signature(flows[name].fn).parameters
    described = _schema(flows[name])["properties"]
    assert described.keys() == parameters.keys() and parameters
    for parameter, told in described.items():
        assert {"type", "anyOf", "enum", "$ref"} & set(told), parameter
        assert told.get("description"), parameter
    assert all(item.annotation is not inspect.Parameter.empty for item in parameters.values())


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("folder", {"folder": "x", "model": "m", "modality": "xray"}, r"'xray' is not one of \['mri', 'ct'\]"),
        ("folder", {"folder": "x", "model": "m", "allow_ood": "perhaps"}, "'perhaps' is not of type 'boolean'"),
        ("manual", {"names": "osteo-unimodal-mri"}, "field 'names'.*is not of type 'array'"),
        ("search", {"last": "deploy"}, "'deploy' is not one of"),
        ("nightly", {"anyway": False}, "'reference' is a required property"),
    ],
)
def test_the_flows_schema_refuses(name: str, wrong: dict, message: str, flows: dict[str, Flow]) -> None:
    with pytest.raises(ValidationError, match=message):
        validate(wrong, _schema(flows[name]), raise_on_error=True)
