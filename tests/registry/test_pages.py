"""`osteo report` in a folder with a store of its own."""

import json
import shutil

import pytest
from click.testing import CliRunner

from osteo_models.cli.main import main
from osteo_models.core.errors import InputError, TableError
from osteo_models.core.params import load_params
from osteo_models.core.settings import load_settings
from osteo_models.evaluation import evaluate_predictions
from osteo_models.ops.notebook import compare_versions
from osteo_models.registry.registration import register_version
from osteo_models.registry.tracking import open_tracking
from osteo_models.report.report_command import write_report
from tests.conftest import ROOT, STAGES
from tests.registry.conftest import TAGS
from tests.report.conftest import STUDY
from tests.report.page import Page


@pytest.fixture
def folder(tmp_path, fresh_store, monkeypatch):
    """A project with predictions and an empty store."""
    for name in ("MLFLOW_TRACKING_URI", "OSTEO_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / ".osteo").mkdir()
    shutil.copy(fresh_store, tmp_path / "mlflow.db")
    STUDY["write_study"](tmp_path / "artifacts", ("unimodal",), 0.2)
    evaluate_predictions(tmp_path / "artifacts", STAGES)
    return tmp_path


def register(folder, job, model, evidence=()):
    """A version of a network, with the predictions that it keeps."""
    settings = load_settings(folder)
    tracking = open_tracking(settings.tracking_uri, settings.state / "mlartifacts")
    run = tracking.begin_job(job)
    tracking.finish_run(run, {})
    metrics = {"stage_5.patient.balanced_accuracy": 0.8}
    return register_version(tracking, model_folder=model, metrics=metrics, tags=TAGS, evidence=evidence, run_id=run)


def test_two_versions_are_compared_by_the_predictions_that_they_keep(folder, make_job, make_model):
    kept = sorted((folder / "artifacts" / "predictions").glob("*/unimodal-mri-*.parquet"))
    for seed in (1, 2):
        job = make_job()
        register(folder, job, make_model(job.key, seed=seed), kept)
    shutil.rmtree(folder / "artifacts" / "predictions")
    out = compare_versions("osteo-unimodal-mri/1", "osteo-unimodal-mri@challenger", folder).write_page()
    assert out == folder / "artifacts" / "comparisons" / "osteo-unimodal-mri-1-and-osteo-unimodal-mri-2.html"
    page = Page(out.read_text(encoding="utf-8"))
    assert "osteo-unimodal-mri version 2 @challenger" in page.text
    assert "B minus A is +0.0 points of balanced accuracy (+0.0 to +0.0): no difference beyond chance." in page.text
    assert "settings: architecture same unimodal unimodal" in page.text
    assert "osteo.weights differs" in page.text


def test_without_kept_predictions_those_of_the_same_job_are_taken(folder, make_job, make_model):
    job, other = make_job(), make_job()
    for one, seed in ((job, 1), (other, 2)):
        register(folder, one, make_model(one.key, seed=seed))
    (folder / "artifacts" / "jobs.json").write_text(json.dumps([{"key": job.key}]))
    out = compare_versions("osteo-unimodal-mri/1", "osteo-unimodal-mri/1", folder).write_page(folder / "same.html")
    assert "Hold-out (" in out.read_text(encoding="utf-8")
    out = compare_versions("osteo-unimodal-mri/1", "osteo-unimodal-mri/2", folder).write_page(folder / "other.html")
    assert "No image was scored by both versions" in out.read_text(encoding="utf-8")


def test_kept_predictions_that_were_spoilt_are_told(folder, make_job, make_model):
    job = make_job()
    spoilt = folder / "stage-5" / "unimodal-mri-patient.parquet"
    spoilt.parent.mkdir()
    spoilt.write_bytes(b"spoilt")
    register(folder, job, make_model(job.key), [spoilt])
    name = "osteo-unimodal-mri/1"
    with pytest.raises(
        TableError, match=r"not a readable parquet file .*; `osteo verify` says which files of the vers"
    ):
        compare_versions(name, name, folder)


@pytest.mark.parametrize("asked", ["osteo-nothing@champion", "osteo-unimodal-mri@nobody", "osteo-unimodal-mri/9"])
def test_an_unknown_version_is_wrong_input(folder, make_job, make_model, asked):
    job = make_job()
    register(folder, job, make_model(job.key))
    with pytest.raises(InputError) as caught:
        compare_versions("osteo-unimodal-mri", asked, folder)
    assert caught.value.exit_code == 2
    assert "allowed: " in str(caught.value)
    assert not (folder / "artifacts" / "comparisons").exists()


def test_the_report_is_written_without_a_registry(folder):
    out = write_report(load_params(folder / "params.yaml"), load_settings(folder))
    assert out == folder / "artifacts" / "report" / "index.html"
    page = Page(out.read_text(encoding="utf-8"))
    assert "Missing: no model version is registered (register.json)." in page.text
    assert "2 epochs instead of 20" in page.text


def test_the_command_says_where_the_page_is(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("osteo_models.cli.main.prepare_environment", lambda: None)  # of this process
    done = CliRunner().invoke(main, ["report", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == {"page": str(folder / "artifacts" / "report" / "index.html")}
    done = CliRunner().invoke(main, ["report", "--compare", "osteo-nothing/1", "osteo-nothing/2"])
    assert done.exit_code == 2
    assert done.output.strip() == (
        "error: no registered model 'osteo-nothing'; allowed: none is registered yet; "
        "register models with `dvc repro register`"
    )
    assert CliRunner().invoke(main, ["report", "--out", "x.html"]).exit_code == 2
