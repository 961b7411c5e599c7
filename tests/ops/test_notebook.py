"""The Python interface: data frames of a project's results, scores and comparisons, equal to those of `osteo`."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import osteo_models
from osteo_models.cli.main import main
from osteo_models.core.errors import InputError
from tests.data.test_image_file import dicom_bytes
from tests.registry.conftest import fresh_store, made_project

__all__ = ["fresh_store", "made_project"]
NAME = "osteo-unimodal-mri"


@pytest.fixture
def root(made_project, monkeypatch):
    for variable in ("MLFLOW_TRACKING_URI", "OSTEO_STATE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    return made_project.root


def test_importing_the_package_imports_no_engine():
    code = "import sys, osteo_models; dir(osteo_models)"
    code += "; print([name for name in ('numpy', 'pandas', 'torch', 'mlflow') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_exported_name_has_a_docstring():
    assert all(getattr(osteo_models, name).__doc__ for name in osteo_models.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        osteo_models.nothing  # noqa: B018


def test_cohort_splits_and_predictions_are_data_frames(root):
    cohort, splits = osteo_models.load_cohort(root), osteo_models.load_splits(root)
    assert len(cohort) == len(splits) == 192
    assert set(cohort.columns) <= set(splits.columns)
    assert splits["fold_patient"].isna().any() and splits["holdout"].dtype == bool
    predictions = osteo_models.load_predictions(root=root)
    assert set(predictions["stage"]) == {"stage-1", "stage-5"}
    one = osteo_models.load_predictions("stage-5", root)
    assert len(one) == (predictions["stage"] == "stage-5").sum()
    merged = one.merge(splits, on="image_id", suffixes=("", "_split"))
    assert (merged["target"] == merged["target_split"]).all() and merged["holdout"].all()
    summary = osteo_models.summarize(one["target"], one["score"], patient_id=one["patient_id"])
    assert summary.n == len(one)


def test_what_is_missing_is_an_error_with_a_remedy(root, tmp_path):
    with pytest.raises(InputError, match="run `dvc repro cohort`"):
        osteo_models.load_cohort(tmp_path)
    with pytest.raises(InputError, match="no predictions of stage 'stage-9'; allowed: stage-1, stage-5"):
        osteo_models.load_predictions("stage-9", root)
    with pytest.raises(InputError, match="no registered model 'osteo-nothing'"):
        osteo_models.load_version("osteo-nothing", root)


def test_files_are_scored_as_the_command_scores_them(root, tmp_path, monkeypatch):
    pixels = np.random.default_rng(3).integers(0, 1000, (120, 100)).astype(np.uint16)
    (tmp_path / "inbox").mkdir()
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / "inbox" / name).write_bytes(dicom_bytes(pixels, PatientID="P7", Modality="MR"))
    (tmp_path / "inbox" / "notes.txt").write_text("no image")
    version = osteo_models.load_version(f"{NAME}@challenger", root)
    assert (version.name, version.version) == (NAME, 1)
    assert [found.version for found in osteo_models.list_versions(NAME, root)] == [1]
    monkeypatch.chdir(root)
    scores = version.score_files(tmp_path / "inbox", allow_ood=True)
    assert len(scores.images) == 3 and scores.images["reason"].notna().sum() == 1
    assert scores.patients["images"].tolist() == [2]
    monkeypatch.setattr("osteo_models.cli.main.prepare_environment", lambda: None)  # of this process
    out = tmp_path / "scores.csv"
    arguments = ["score", str(tmp_path / "inbox"), "--model", NAME, "--out", str(out), "--allow-ood"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    scores.write(tmp_path / "mine.csv")
    for suffix in ("", "-patients"):
        mine, theirs = (pd.read_csv(tmp_path / f"{stem}{suffix}.csv") for stem in ("mine", "scores"))
        pd.testing.assert_frame_equal(mine, theirs)


def test_a_version_is_compared_with_itself(root, tmp_path):
    found = osteo_models.compare_versions(f"{NAME}/1", f"{NAME}@challenger", root)
    assert (found.differences["difference"] == 0).all()
    assert set(found.differences["metric"]) == {"balanced_accuracy", "roc_auc"}
    assert found.metrics.loc["stage_5.patient.balanced_accuracy"].tolist() == [0.8]
    page = found.write_page(tmp_path / "page.html")
    assert json.dumps(f"{NAME} version 1")[1:-1] in page.read_text(encoding="utf-8")
