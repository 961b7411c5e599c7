"""Audits find what was planted, and say nothing where there is nothing to say."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from osteo_models.evaluation.audits import audit, flatten_audits, flatten_job
from osteo_models.evaluation.audits.groups import band_ages, group_rows, join_pairs, pair_rows
from osteo_models.evaluation.audits.leakage import NEAR, alike_rows, duplicate_rows, find_alike, shared_rows
from osteo_models.evaluation.audits.shortcuts import (
    beyond_rows,
    make_features,
    score_alone,
    score_shortcuts,
    shortcut_rows,
)
from osteo_models.evaluation.image_facts import read_facts
from osteo_models.evaluation.metrics import Measure, summarize
from osteo_models.evaluation.predictions import read_predictions

MEASURE = Measure()


@pytest.fixture
def facts(tmp_path, cohort):
    cohort(tmp_path, 0.3)
    return read_facts(tmp_path)


def find(rows, **wanted):
    (row,) = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return row


def test_planted_duplicates_are_found_across_the_splits_that_they_cross(facts):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (facts.image_id.size, 12, 9), dtype=np.uint8)
    held, rest = np.flatnonzero(~facts.development)[0], np.flatnonzero(facts.development)
    pixels[rest[3]] = pixels[held]  # the same image in the hold-out and in training
    pixels[rest[90]] = pixels[rest[4]] // 4 * 3 + 20  # darker, rounded: nearly the same
    pixels[rest[7]] = pixels[rest[8]] = 0  # all black, of one patient
    alike = find_alike(pixels)
    assert {(a, b) for a, b in zip(alike.first, alike.second, strict=True)} == {
        tuple(sorted((int(held), int(rest[3])))),
        (rest[4], rest[90]),
        (rest[7], rest[8]),
    }
    rows = list(duplicate_rows(facts, alike))
    one = find(rows, split="holdout", kind="exact")
    assert (one["pairs"], one["pairs_other_patient"], one["images"], one["n"]) == (1, 1, 1, (~facts.development).sum())
    assert one["share"] == pytest.approx(1 / one["n"])
    near = find(rows, split="fold_image", kind="near")
    sides = facts.sides["fold_image"]
    assert near["pairs"] == int(sides[rest[4]] != sides[rest[90]])
    assert find(rows, split="patient_test", kind="exact")["pairs"] == 0
    tested = facts.sides["patient_test"] == 1
    assert {row["n"] for row in rows if row["split"] == "patient_test"} == {tested.sum()}
    pixels[np.flatnonzero(tested)[0]] = pixels[rest[20]]  # in the patient-based test set and in training
    row = find(duplicate_rows(facts, find_alike(pixels)), split="patient_test", kind="exact")
    assert (row["pairs"], row["images"], row["share"]) == (1, 1, 1 / tested.sum())
    listed = list(alike_rows(facts, alike))
    assert [row["exact"] for row in listed] == [1, 1, 0]
    assert NEAR <= listed[2]["correlation"] < 1
    black = next(row for row in listed if row["correlation"] is None)
    assert black["patient_a"] == black["patient_b"]
    assert next(row for row in listed if row["splits"] == "holdout")["image_id_a"] in facts.image_id[[held, rest[3]]]


def test_blocks_find_the_same_pairs(facts, monkeypatch):
    whole = find_alike(facts.pixels, 0.9)
    monkeypatch.setattr("osteo_models.evaluation.audits.leakage.ROWS_AT_ONCE", 50)
    parts = find_alike(facts.pixels, 0.9)
    assert whole.first.size > 50
    for name in ("first", "second", "exact"):
        order = np.lexsort((parts.second, parts.first)), np.lexsort((whole.second, whole.first))
        assert np.array_equal(getattr(parts, name)[order[0]], getattr(whole, name)[order[1]])


def test_slices_of_one_patient_share_a_series_in_the_image_protocol_alone(facts):
    rows = list(shared_rows(facts))
    image, patient = find(rows, split="fold_image", unit="series"), find(rows, split="fold_patient", unit="series")
    assert image["share"] > 0.9
    assert (patient["units"], patient["images"], patient["share"]) == (0, 0, 0.0)
    assert find(rows, split="holdout", unit="study")["units"] == 0
    assert {(row["unit"], row["source"]) for row in rows} == {
        ("patient", "splits/splits.csv"),
        ("study", "cohort/headers.csv"),
        ("series", "cohort/headers.csv"),
    }


@pytest.mark.parametrize("unit", ["patient", "study", "series"])
@pytest.mark.parametrize("split", ["holdout", "patient_test", "fold_image", "fold_patient"])
def test_what_two_sides_share_is_counted_as_by_hand(facts, split, unit):
    series = np.where(np.arange(facts.series.size) % 7 == 0, "one", facts.series)
    facts = replace(facts, series=series)
    names = facts.patient_id if unit == "patient" else getattr(facts, unit)
    rows = [(name, int(side)) for name, side in zip(names, facts.sides[split], strict=True) if side >= 0]
    sides = {name: {side for other, side in rows if other == name} for name, _ in rows}
    tested = [name for name, side in rows if side == 1 or split.startswith("fold")]
    shared = sum(len(sides[name]) > 1 for name in tested)
    row = find(shared_rows(facts), split=split, unit=unit)
    assert (row["units"], row["units_total"]) == (sum(len(each) > 1 for each in sides.values()), len(sides))
    assert (row["images"], row["n"], row["share"]) == (shared, len(tested), shared / len(tested))
    assert (row["note"], bool(shared)) == ("", unit == "series" or split == "fold_image")


def test_one_study_under_two_names_is_found(facts):
    study = facts.study.copy()
    study[np.flatnonzero(~facts.development)[0]] = study[np.flatnonzero(facts.development)[0]]
    row = find(shared_rows(replace(facts, study=study)), split="holdout", unit="study")
    assert (row["units"], row["images"]) == (1, 1)
    unknown = np.where(np.arange(study.size) < 5, "", study)
    assert find(shared_rows(replace(facts, study=unknown)), split="fold_image", unit="study")["note"] == (
        "unknown for 5 image(s)"
    )
    silent = find(shared_rows(replace(facts, study=np.full(study.size, ""))), split="holdout", unit="study")
    assert (silent["note"], silent.get("share")) == ("not in the headers", None)


def test_age_alone_tells_the_classes_and_not_on_the_hold_out(facts):
    rows = list(shortcut_rows(facts, score_shortcuts(facts), MEASURE))
    assert find(rows, predictor="age", images="mri", validation="folds", metric="roc_auc")["value"] > 0.95
    held = find(rows, predictor="age", images="combined", validation="holdout", metric="balanced_accuracy")
    assert 0.2 < held["value"] < 0.8
    header = find(rows, predictor="header", images="mri", validation="folds", metric="roc_auc")
    assert header["value"] > 0.95  # the made-up echo times give the class away
    assert header["columns"] == "echo_time_ms;scanner Maker Two 1.5 T"
    assert header["source"] == "cohort/headers.csv"
    sex = find(rows, predictor="sex", images="ct", validation="folds", metric="roc_auc")
    assert sex["ci_low"] < 0.6


def test_shortcuts_are_tested_on_patients_they_did_not_see(facts):
    of_set = facts.modality == "mri"
    features = make_features(facts, "age", of_set)
    scored, note = score_alone(facts, features, of_set, "folds")
    assert note == ""
    assert np.array_equal(~np.isnan(scored), of_set & facts.development)
    changed = replace(facts, target=np.where(facts.sides["fold_patient"] == 1, 1 - facts.target, facts.target))
    again, _ = score_alone(changed, features, of_set, "folds")
    tested = facts.sides["fold_patient"] == 1
    assert np.array_equal(scored[tested & of_set], again[tested & of_set])
    assert not np.array_equal(scored[~tested & of_set], again[~tested & of_set])


def test_a_shortcut_that_says_nothing_is_undefined(facts):
    of_set = facts.modality == "ct"
    quiet = replace(facts, numbers={"kvp": facts.numbers["kvp"]}, scanner=np.full(of_set.size, "One"))
    score, note = score_alone(quiet, make_features(quiet, "header", of_set), of_set, "folds")
    assert (np.isnan(score).all(), note) == (True, "undefined: the same for all images")
    assert make_features(quiet, "header", of_set) == {}
    one_class = replace(facts, target=np.ones_like(facts.target))
    age = make_features(facts, "age", of_set)
    assert score_alone(one_class, age, of_set, "holdout")[1] == "undefined: one class to learn from"
    assert score_alone(facts, age, np.zeros_like(of_set), "holdout")[1] == "undefined: one class to learn from"
    found = shortcut_rows(quiet, score_shortcuts(quiet), MEASURE)
    rows = [row for row in found if (row["predictor"], row["images"]) == ("header", "ct")]
    assert {row["note"] for row in rows} == {"undefined: the same for all images"}
    assert not any("value" in row for row in rows)


@pytest.mark.parametrize("unit", [1, 12, 1e-3])
def test_a_shortcut_is_a_logistic_regression_whatever_the_unit_of_age(facts, unit):
    of_set, folds = facts.modality == "mri", facts.sides["fold_patient"]
    other = replace(facts, age_years=unit * facts.age_years)
    scored, _ = score_alone(other, make_features(other, "age", of_set), of_set, "folds")
    train, test = of_set & (folds >= 0) & (folds != 2), of_set & (folds == 2)
    model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8))
    model.fit(facts.age_years[train, None], facts.target[train])
    assert scored[test] == pytest.approx(model.predict_proba(facts.age_years[test, None])[:, 1], abs=1e-3)


def test_what_the_training_patients_have_alike_gives_each_the_share_of_osteoporosis(facts):
    of_set, folds = facts.modality == "mri", facts.sides["fold_patient"]
    facts = replace(facts, sex=np.where((folds == 1) & (facts.target == 1), "M", "F"))
    scored, note = score_alone(facts, make_features(facts, "sex", of_set), of_set, "folds")
    share = facts.target[of_set & (folds >= 0) & (folds != 1)].mean()
    assert note == "" and scored[of_set & (folds == 1)] == pytest.approx(share, abs=1e-4)


def test_a_lacking_header_value_is_a_column_of_its_own(facts):
    features = make_features(facts, "header", np.ones(facts.image_id.size, dtype=bool))
    assert "kvp unknown" in features  # only CT has it: the modality
    assert all(np.isfinite(column).all() for column in features.values())


@pytest.fixture
def jobs(tmp_path, facts, study):
    study(tmp_path, ("unimodal",), 0.3)
    return {job.name: job for job in read_predictions(tmp_path)}


def test_a_model_is_set_against_age_on_the_same_patients(jobs, facts):
    job, shortcuts = jobs["stage-1/unimodal-mri-patient"], score_shortcuts(facts)
    rows = list(beyond_rows(job, facts, shortcuts, MEASURE))
    age = find(rows, predictor="age", metric="roc_auc")
    scored = shortcuts["age", "mri", "folds"].score[facts.find_rows(job.image_id)]
    assert age["model"] == pytest.approx(roc_auc_score(job.target, job.score))
    assert age["shortcut"] == pytest.approx(roc_auc_score(job.target, scored))
    assert age["difference"] == age["model"] - age["shortcut"]
    assert age["ci_low"] < age["difference"] < age["ci_high"]
    assert (age["n"], age["n_patients"]) == (job.target.size, np.unique(job.patient_id).size)
    assert find(rows, predictor="sex", metric="roc_auc")["ci_low"] > 0  # any model knows more than that
    quiet = {key: replace(one, score=np.full_like(one.score, np.nan), note="why") for key, one in shortcuts.items()}
    assert {row["note"] for row in beyond_rows(job, facts, quiet, MEASURE)} == {"why"}


def test_groups_have_their_own_figures_and_small_ones_none(jobs, facts):
    job = jobs["stage-3/unimodal-combined-patient"]
    rows = list(group_rows(job, facts, MEASURE))
    sex = facts.sex[facts.find_rows(job.image_id)]
    women = find(rows, by="sex", group="F", metric="balanced_accuracy")
    part = job.select(sex == "F")
    assert women["value"] == pytest.approx(balanced_accuracy_score(part.target, part.score >= 0.5))
    assert women["ci_low"] < women["value"] < women["ci_high"]
    assert (women["n"], women["n_patients"]) == (part.target.size, np.unique(part.patient_id).size)
    assert (women["n_positive"], women["n_negative"]) == (np.sum(part.target == 1), np.sum(part.target == 0))
    assert {row["group"] for row in rows if row["by"] == "scanner"} == {"Maker One 1.5 T", "Maker Two 1.5 T"}
    assert {row["group"] for row in rows if row["by"] == "modality"} == {"mri", "ct"}
    small = [row for row in rows if row["n_patients"] < 10]
    assert small
    for row in small:
        assert row["note"] == f"too few: {row['n_patients']} patient(s), 10 wanted"
        assert "value" not in row
    one_class = [row for row in rows if row["note"] == "one class alone" and row["metric"] == "roc_auc"]
    assert one_class and all(row["value"] is None for row in one_class)


def test_age_bands_hold_their_ends():
    assert band_ages(np.asarray([34.0, 35, 44, 45, 74, 75, np.nan])).tolist() == [
        *("under 35", "35-44", "35-44", "45-54", "65-74", "75 and over", "unknown")
    ]


def test_pairs_share_one_score(jobs, facts):
    job = jobs["stage-4/multimodal-multimodal-patient"]
    job = replace(job, score=0.3 * job.score + 0.7 * np.random.default_rng(4).random(job.score.size))
    mri, ct = (job.select(rows) for rows in join_pairs(job, facts, 1))
    paired, patients = (mri.score + ct.score) / 2, np.unique(mri.patient_id).size + np.unique(ct.patient_id).size
    of_protocol = facts.pairs.split == "patient"
    score = dict(zip(job.image_id, job.score, strict=True))
    expected = [
        (score[a] + score[b]) / 2 for a, b in facts.pairs.image_ids[:, of_protocol].T if a in score and b in score
    ]
    assert paired.tolist() == pytest.approx(expected)
    rows = list(pair_rows(job, facts, MEASURE))
    area = find(rows, metric="roc_auc")
    assert area["value"] == pytest.approx(roc_auc_score(mri.target, paired))
    assert (area["n"], area["n_patients"]) == (mri.target.size, patients)
    assert "no interval" in area["note"] and "ci_low" not in area
    accuracy = find(rows, metric="balanced_accuracy")["value"]
    assert accuracy == pytest.approx(balanced_accuracy_score(mri.target, paired >= 0.5))


def test_pairs_of_the_hold_out_are_drawn_within_a_class(jobs, facts):
    job = jobs["stage-5/multimodal-multimodal-patient"]
    mri, ct = join_pairs(job, facts, 1)
    smaller = [
        min(np.sum((job.modality == name) & (job.target == label)) for name in ("mri", "ct")) for label in (0, 1)
    ]
    assert np.array_equal(job.target[mri], job.target[ct])
    assert np.bincount(job.target[mri]).tolist() == smaller
    assert not np.array_equal(ct, join_pairs(job, facts, 2)[1])
    alone = job.select(job.modality == "mri")
    assert {row["note"] for row in pair_rows(alone, facts, MEASURE)} == {"no pairs of images that were scored"}


def test_flat_metrics_are_those_of_the_rows(jobs, facts):
    summaries = {
        name: {"all": summarize(job.target, job.score, patient_id=job.patient_id)} for name, job in jobs.items()
    }
    tables = audit(list(jobs.values()), summaries, facts, Measure())
    flat = flatten_audits(tables)
    age = find(tables["shortcuts"], predictor="age", images="mri", validation="holdout", metric="roc_auc")
    assert flat["shortcut.age.mri.holdout.roc_auc"] == age["value"]
    assert flat["shared.fold_image.series"] > 0.9
    assert flat["duplicates.fold_patient.exact"] == 0.0
    of_job = flatten_job(tables, jobs["stage-5/unimodal-mri-patient"])
    assert of_job["audit.age.roc_auc"] == age["value"]
    assert of_job["audit.shared.series"] == 0.0
    assert of_job["audit.duplicates.exact"] == flat["duplicates.holdout.exact"]
    of_image = flatten_job(tables, jobs["stage-1/unimodal-mri-image"])
    assert of_image["audit.shared.series"] == flat["shared.fold_image.series"]
    model = find(tables["shortcuts"], predictor="unimodal", images="mri", validation="holdout", metric="roc_auc")
    assert model["value"] == summaries["stage-5/unimodal-mri-patient"]["all"].roc_auc.value
    assert audit(list(jobs.values()), summaries, None, MEASURE)["groups"] == []
