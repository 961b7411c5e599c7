import numpy as np
import pandas as pd
import pytest

from osteo_models.core.errors import SplitError, StaleDataError
from osteo_models.training.job_data import load_tables, make_predictions, select_rows
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.recipe import Recipe


@pytest.fixture
def jobs(small_params, tables):
    return {(job.stage, job.name): job for job in plan_jobs(small_params, tables, Recipe(precision="float32"))}


def test_no_job_ever_trains_on_what_it_is_tested_on_nor_on_the_hold_out(jobs, tables):
    splits = tables.splits
    assert {job.protocol for job in jobs.values()} == {"patient", "image"}
    for job in jobs.values():
        for fold in range(job.folds):
            rows = select_rows(job, fold, tables)
            train, test = splits.iloc[rows.train.ravel()], splits.iloc[rows.test.ravel()]
            assert len(train) and len(test)
            assert not set(train["image_id"]) & set(test["image_id"])
            assert train["holdout"].sum() == 0
            if job.protocol == "patient":
                assert not set(train["patient_id"]) & set(test["patient_id"])


def test_every_development_image_is_tested_once_in_cross_validation(jobs, tables):
    job = jobs["stage-1", "unimodal-mri-patient"]
    tested = np.concatenate([select_rows(job, fold, tables).test for fold in range(job.folds)])
    expected = np.flatnonzero((tables.splits["modality"] == "mri") & (tables.splits["holdout"] == 0))
    assert sorted(tested) == expected.tolist()


def test_combined_takes_both_modalities_and_stage_6_leaves_its_patients_out(jobs, tables):
    rows = select_rows(jobs["stage-3", "unimodal-combined-patient"], 0, tables)
    assert set(tables.splits.iloc[rows.train]["modality"]) == {"mri", "ct"}
    rows = select_rows(jobs["stage-6", "unimodal-ct-patient"], 0, tables)
    assert tables.splits.iloc[rows.train]["patient_test"].sum() == 0
    assert (tables.splits.iloc[rows.test]["patient_test"] == 1).all()


def test_multimodal_trains_on_pairs_of_one_class(jobs, tables):
    for name in (("stage-4", "multimodal-multimodal-patient"), ("stage-5", "multimodal-multimodal-patient")):
        rows = select_rows(jobs[name], 0, tables)
        mri, ct = tables.splits.iloc[rows.train[:, 0]], tables.splits.iloc[rows.train[:, 1]]
        assert set(mri["modality"]) == {"mri"} and set(ct["modality"]) == {"ct"}
        assert (mri["target"].to_numpy() == ct["target"].to_numpy()).all()
    assert len(rows.test) == (tables.splits["holdout"] == 1).sum()


def test_feature_fusion_is_tested_on_pairs(jobs, tables):
    job = jobs["stage-5", "multimodal-multimodal-patient"]
    paired = type(job)(**{**vars(job), "spec": {"fusion": "feature"}})
    rows = select_rows(paired, 0, tables)
    assert rows.test.shape[1] == 2
    scores = np.linspace(0, 1, rows.test.size, dtype=np.float32).reshape(rows.test.shape)
    table = make_predictions(paired, [(0, rows.test, scores)], tables)
    assert len(table) == rows.test.size
    assert table["score"].tolist() == scores.ravel().astype(float).tolist()


def test_predictions_name_image_patient_and_truth(jobs, tables):
    job = jobs["stage-2", "unimodal-ct-patient"]
    rows = [select_rows(job, fold, tables).test for fold in range(2)]
    scores = [np.full(len(part), 0.25 * (fold + 1), dtype=np.float32) for fold, part in enumerate(rows)]
    table = make_predictions(job, [(fold, rows[fold], scores[fold]) for fold in range(2)], tables)
    assert table.columns.tolist() == [
        *("stage", "architecture", "images", "protocol", "fold"),
        *("image_id", "patient_id", "modality", "target", "score"),
    ]
    assert table.groupby("fold")["score"].unique().map(list).to_dict() == {0: [0.25], 1: [0.5]}
    truth = tables.splits.set_index("image_id").loc[table["image_id"]]
    assert (truth["target"].to_numpy() == table["target"].to_numpy()).all()


def write(tables, folder):
    for name in ("cohort", "splits"):
        (folder / name).mkdir()
    np.save(folder / "cohort" / "images.npy", tables.images)
    tables.splits[["image_id"]].to_csv(folder / "cohort" / "images.csv", index=False)
    tables.splits.to_csv(folder / "splits" / "splits.csv", index=False)
    tables.pairs.to_csv(folder / "splits" / "pairs.csv", index=False)


def test_tables_come_back_from_disk(tables, tmp_path):
    write(tables, tmp_path)
    loaded = load_tables(tmp_path)
    assert loaded.splits["fold_patient"].equals(tables.splits["fold_patient"])
    assert np.array_equal(loaded.images, tables.images)
    assert loaded.digest_images() == tables.digest_images()


def test_splits_of_other_images_or_with_a_leak_are_refused(tables, tmp_path):
    write(tables, tmp_path)
    path = tmp_path / "splits" / "splits.csv"
    splits = pd.read_csv(path)
    first = splits[splits["holdout"] == 0].index[0]
    splits.loc[first, "fold_patient"] = (splits.loc[first, "fold_patient"] + 1) % 5
    splits.to_csv(path, index=False)
    with pytest.raises(SplitError, match=f"fold_patient: {splits.loc[first, 'patient_id']}"):
        load_tables(tmp_path)
    splits.iloc[1:].to_csv(path, index=False)
    with pytest.raises(StaleDataError, match=r"splits\.csv: made from other images; run `dvc repro splits`"):
        load_tables(tmp_path)
    path.unlink()
    with pytest.raises(StaleDataError, match="file not found"):
        load_tables(tmp_path)
