"""dvc.yaml names real files, real parameters and real flows."""

import importlib.util
import subprocess
from pathlib import Path

import grimp
import pytest
import yaml

from tests.conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
OUTS = [out for stage in STAGES.values() for out in (*stage["outs"], *stage.get("metrics", []))]
IN_GIT = {path for out in OUTS if isinstance(out, dict) for path, options in out.items() if options == {"cache": False}}
OUTPUTS = {out for out in OUTS if isinstance(out, str)} | IN_GIT


# Code that a stage imports and that cannot change its outputs: how it runs, what it reports, what it logs to the store.
NEUTRAL = (
    "osteo_models/ops/servers/",
    "osteo_models/data/data_folder.py",
    "osteo_models/registry/run_context.py",
    *(f"osteo_models/core/{name}.py" for name in ("errors", "files", "http_guard", "params_faults", "processes")),
    *(f"osteo_models/core/{name}.py" for name in ("progress", "search_params", "settings")),
    *(f"pipelines/{name}.py" for name in ("entry", "reconcile", "server", "training_progress")),
)
STORE = tuple(
    f"osteo_models/registry/{name}.py"
    for name in (
        *("embedded_store", "journal", "journal_events", "orphans", "run_context", "runs", "store", "tracking"),
        "write_queue",
    )
)
REVISIONS = ("osteo_models/data/code_tree.py", "osteo_models/data/revisions.py")
NEUTRAL_BY_STAGE = dict.fromkeys(STAGES.keys() - {"register", "report"}, (*STORE, *REVISIONS))


@pytest.fixture(scope="module")
def graph():
    graph = grimp.build_graph("osteo_models", "pipelines", exclude_type_checking_imports=True)
    context = "osteo_models.registry.run_context"
    opened = ("registry.tracking", "registry.journal", "registry.journal_events", "data.code_tree", "data.revisions")
    for name in opened:
        # A stage that uses the store or the journal imports them too; the tags of the code go to MLflow alone.
        graph.remove_import(importer=context, imported=f"osteo_models.{name}")
    return graph


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_code_that_it_runs(name, graph):
    modules = {f"pipelines.{name}", *graph.find_upstream_modules(f"pipelines.{name}")}
    needed = {f"{module.replace('.', '/')}.py" for module in modules if not (ROOT / module.replace(".", "/")).is_dir()}
    code = [path for path in STAGES[name]["deps"] if path.startswith(("osteo_models", "pipelines"))]
    for path in code:
        assert (ROOT / path).suffix == ".csv" or any(f"{file}/".startswith(f"{path}/") for file in needed), path
    neutral = (*NEUTRAL, *NEUTRAL_BY_STAGE.get(name, ()))
    missing = {file for file in needed if not file.startswith(neutral)}
    missing -= {file for file in missing for path in code if f"{file}/".startswith(f"{path}/")}
    assert missing == set()


def test_the_stages_stand_in_their_order():
    order = ["cohort", "splits", "search", "experiments", "evaluate", "explain", "register", "report"]
    assert list(STAGES) == order


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_runs_its_flow_on_what_is_there(name, raw_params):
    stage = STAGES[name]
    assert stage["cmd"] == f"python -m pipelines.{name}"
    assert importlib.util.find_spec(f"pipelines.{name}") is not None
    for dependency in stage["deps"]:
        made = any(f"{output}/".startswith(f"{dependency}/") or dependency.startswith(output) for output in OUTPUTS)
        assert made or dependency == "${data.path}" or (ROOT / dependency).exists(), dependency
    for parameter in stage.get("params", []):
        value = raw_params
        for key in parameter.split("."):
            value = value[key]


def test_every_parameter_belongs_to_a_stage(raw_params):
    used = {parameter.split(".")[0] for stage in STAGES.values() for parameter in stage.get("params", [])}
    assert set(raw_params) == used


def test_git_keeps_the_small_outputs_alone():
    assert len(OUTS) == len(OUTPUTS) and all(path.startswith("artifacts/") for path in OUTPUTS)
    files = {path if "." in path else f"{path}/file.csv": path for path in OUTPUTS | {"data/", ".osteo/"}}
    check = subprocess.run(["git", "check-ignore", "--no-index", *files], cwd=ROOT, capture_output=True, text=True)
    ignored = {files[line] for line in check.stdout.splitlines()}
    assert set(files.values()) - ignored == IN_GIT
    assert {Path(path).parts[1] for path in IN_GIT} == {"metrics", "plots"}


def test_telemetry_of_dvc_is_off():
    assert "analytics = false" in (ROOT / ".dvc" / "config").read_text(encoding="utf-8")
