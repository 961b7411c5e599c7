"""dvc.yaml names real files, real parameters and real flows."""

import importlib.util

import pytest
import yaml

from tests.conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
OUTPUTS = {path for stage in STAGES.values() for kind in ("outs", "metrics") for path in stage.get(kind, [])}


def test_the_stages_stand_in_their_order():
    order = ["cohort", "splits", "search", "experiments", "evaluate", "explain", "register", "report"]
    assert list(STAGES) == order


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_runs_its_flow_on_what_is_there(name, raw_params):
    stage = STAGES[name]
    assert stage["cmd"] == f"python -m pipelines.{name}"
    assert importlib.util.find_spec(f"pipelines.{name}") is not None
    for dependency in stage["deps"]:
        made = any(output == dependency or output.startswith(f"{dependency}/") for output in OUTPUTS)
        assert made or dependency == "${data.path}" or (ROOT / dependency).exists(), dependency
    for parameter in stage.get("params", []):
        value = raw_params
        for key in parameter.split("."):
            value = value[key]


def test_every_parameter_belongs_to_a_stage(raw_params):
    used = {parameter.split(".")[0] for stage in STAGES.values() for parameter in stage.get("params", [])}
    assert set(raw_params) == used


def test_no_output_lies_in_the_data_set_or_in_git():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert OUTPUTS and [path for path in OUTPUTS if not path.startswith("artifacts/")] == []
    assert {"artifacts/", "/data/", ".osteo/"} <= set(ignored)


def test_telemetry_of_dvc_is_off():
    assert "analytics = false" in (ROOT / ".dvc" / "config").read_text(encoding="utf-8")
