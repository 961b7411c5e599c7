"""A stage that is added as one row of params.yaml is trained, evaluated, audited, judged, reported and logged."""

from __future__ import annotations

import json
import warnings

import pandas as pd
import pytest
import yaml

with warnings.catch_warnings():  # MLflow uses what its own dependencies deprecate
    warnings.simplefilter("ignore")
    from osteo_models.registry.tracking import open_tracking
    from osteo_models.registry.versions import list_versions
from tests.conftest import ROOT
from tests.report.page import Page
from tests.scenarios.laboratory import make_laboratory

# Ray leaves a socket and a log file open when it shuts down.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
    pytest.mark.timeout(1500),  # four flows as processes, Ray among them
]

NEW = {"validation": "holdout", "images": ["mri"], "architectures": ["unimodal"]}
FLOWS = ("experiments", "evaluate", "register", "report")
JOB = "unimodal-mri-patient"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a stage more than the repository's params.yaml has, from training to report."""
    laboratory = make_laboratory(tmp_path_factory.mktemp("project"), epochs=1)
    raw = yaml.safe_load((laboratory.root / "params.yaml").read_text(encoding="utf-8"))
    raw["stages"]["stage-7"] = NEW
    raw["gate"] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["gate"]
    (laboratory.root / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    (laboratory.root / "artifacts/cohort/selection.json").write_text("{}", encoding="utf-8")
    for flow in FLOWS:
        laboratory.run(f"pipelines.{flow}")
    return laboratory.root


@pytest.fixture(scope="module")
def version(project):
    """The version of the network alone."""
    tracking = open_tracking(f"sqlite:///{project / 'mlflow.db'}", project / ".osteo" / "mlartifacts")
    (found,) = list_versions(tracking, "osteo-unimodal-mri")
    return tracking, found


def test_it_has_metrics_and_is_audited_by_its_own_validation(project):
    metrics = json.loads((project / "artifacts/evaluation/metrics/stage-7.json").read_text())
    other = json.loads((project / "artifacts/evaluation/metrics/stage-5.json").read_text())
    assert metrics[f"{JOB}.n"] == 16 and metrics[f"{JOB}.audit.shared.patient"] == 0
    assert metrics == other  # the same network on the same images, but for its name
    audits = pd.read_csv(project / "artifacts/evaluation/shortcuts.csv")
    of_stage = audits[audits["source"] == f"predictions/stage-7/{JOB}.parquet"]
    assert set(of_stage["validation"]) == {"holdout"}
    chosen = pd.read_csv(project / "artifacts/evaluation/chosen.csv")
    threshold = chosen[chosen["stage"] == "stage-7"]["source_threshold"]
    assert set(threshold.fillna("")) <= {f"predictions/stage-1/{JOB}.parquet"}


def test_one_network_is_registered_with_the_metrics_of_both_stages_and_judged_by_both(project, version):
    tracking, found = version
    assert found.metrics["stage_7.patient.n"] == found.metrics["stage_5.patient.n"] == 16
    assert "stage_7.patient.balanced_accuracy" in found.tags
    card = tracking.client.get_model_version(found.name, str(found.version)).description
    assert "| stage-7 | patient |" in card
    registered = json.loads((project / "artifacts/register.json").read_text())
    rules = {rule["rule"]: rule for rule in registered[0]["rules"]}
    minimum = rules["minimum balanced_accuracy (stage-5, stage-7)"]
    assert "stage-7 " in minimum["found"]
    assert rules["metrics_match (stage-1, stage-5, stage-7)"]["found"] == "stage-1, stage-5, stage-7 as computed"
    untouched = rules["holdout_untouched"]
    assert untouched["passed"] and "no stage but stage-5, stage-7 saw" in untouched["needed"]
    assert "stage-7" not in rules["patient_disjoint"]["found"] and rules["patient_disjoint"]["passed"]


def test_its_runs_and_metrics_are_in_mlflow(version):
    tracking, _ = version
    (experiment,) = tracking.client.search_experiments(filter_string="name = 'osteo/stage-7'")
    runs = tracking.client.search_runs([experiment.experiment_id])
    assert any("stage_7.patient.balanced_accuracy" in run.data.metrics for run in runs)


def test_the_report_has_its_section(project):
    page = Page((project / "artifacts/report/index.html").read_text(encoding="utf-8"))
    assert {"stage-7", "table-stage-7"} <= set(page.ids)
    assert "Stage 7. Hold-out of close ages, MRI" in page.text
    assert "hold-out, stages 5 and 7" in page.text
    assert "Stages 1, 5 and 7, with the paper's figures" in page.text
