"""Two versions side by side: on the same images, in words, and where they come from."""

import re
from dataclasses import replace

import numpy as np
import pytest

from osteo_models.evaluation.delong import delong_test
from osteo_models.evaluation.metrics import summarize
from osteo_models.evaluation.patient_level import score_patients
from osteo_models.evaluation.predictions import Predictions
from osteo_models.report.version_comparison import Side, describe_pairs, list_origins, pair_versions, write_comparison
from tests.conftest import STAGES
from tests.report.page import Page

OPTIONS = {"threshold": 0.5}


def make_job(skill, seed=1, stage="stage-5", images="mri", protocol="patient", patients=30):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), 6)
    target = (owner % 2).astype(np.int64)
    level = np.random.default_rng(9).normal(0, 1.2, patients)[owner]
    score = 1 / (1 + np.exp(-(skill * (2 * target - 1) + level + rng.normal(0, 0.5, owner.size))))
    names = np.asarray([f"P{one:02d}" for one in owner], dtype=np.str_)
    ids = np.asarray([f"{name}-mri-{place:03d}" for place, name in enumerate(names)], dtype=np.str_)
    validation = STAGES.find(stage).validation
    source = f"predictions/{stage}/unimodal-{images}-{protocol}.parquet"
    fold = np.zeros(owner.size, dtype=np.int64)
    modality = np.full(owner.size, "mri", dtype=np.str_)
    return Predictions(
        stage, "unimodal", images, protocol, validation, source, fold, ids, names, modality, target, score
    )


def make_side(predictions, version=1, **changes):
    metrics = {"stage_5.patient.balanced_accuracy": 0.8, "stage_5.patient.balanced_accuracy.ci_low": 0.7}
    metrics |= {"stage_5.patient.balanced_accuracy.ci_high": 0.9, "stage_5.patient.n": 180.0}
    metrics |= {"stage_5.patient.n_patients": 30.0}
    tags = {"git.commit": "1f3a", "dvc.data": "aa.dir", "synthetic": "true"}
    given = {"name": "osteo-unimodal-mri", "version": version}
    given |= {"aliases": ("champion",), "metrics": metrics, "tags": tags, "settings": {"architecture": "unimodal"}}
    return Side(**given | {"predictions": predictions} | changes)


def test_a_pair_agrees_with_the_tests_made_one_by_one():
    a, b = make_job(0.6), make_job(1.4, seed=2)
    (pair,) = pair_versions([a], [b], **OPTIONS)
    assert (pair.kind, pair.protocol, pair.n, pair.n_patients) == ("hold-out", "patient", 180, 30)
    for side, job in ((pair.balanced_accuracy.second, a), (pair.balanced_accuracy.first, b)):
        assert side == pytest.approx(summarize(job.target, job.score).balanced_accuracy.value)
    assert pair.by_image == delong_test(a.target, b.score, a.score)
    means = [score_patients(job.target, job.score, job.patient_id) for job in (a, b)]
    target = [one.target for one in means[0]]
    assert pair.by_patient == delong_test(target, *([one.score for one in side] for side in reversed(means)))
    gap = pair.roc_auc
    assert gap.value == pytest.approx(pair.by_image.auc_a - pair.by_image.auc_b)
    assert gap.ci_low < gap.value < gap.ci_high


def test_only_images_that_both_have_scored_count():
    a, b = make_job(0.6), make_job(1.4, seed=2)
    part = b.select(np.arange(60, 180)[::-1])
    (pair,) = pair_versions([a], [part], **OPTIONS)
    (same,) = pair_versions([a.select(np.arange(60, 180))], [b.select(np.arange(60, 180))], **OPTIONS)
    assert (pair.n, pair.n_patients) == (120, 20)
    assert pair == same


def test_a_version_against_itself_does_not_differ():
    job = make_job(0.8)
    (pair,) = pair_versions([job], [job], **OPTIONS)
    assert (pair.roc_auc.value, pair.roc_auc.ci_low, pair.roc_auc.ci_high) == (0, 0, 0)
    assert (pair.by_patient.z, pair.by_patient.p_value) == (0, 1)


def test_folds_pair_whatever_stage_they_are_of():
    a, b = make_job(0.6, stage="stage-1"), make_job(1.0, seed=3, stage="stage-4", images="multimodal")
    (pair,) = pair_versions([a], [b], **OPTIONS)
    assert pair.kind == "folds"
    assert pair.sources == ("predictions/stage-1/unimodal-mri-patient.parquet", b.source)


def test_one_class_or_constant_scores_are_undefined_in_words():
    a = make_job(0.6)
    constant = replace(a, score=np.full(a.score.size, 0.7))
    (pair,) = pair_versions([constant], [a], **OPTIONS)
    assert (pair.by_image, pair.by_patient, pair.roc_auc.value) == (None, None, None)
    assert pair.note.startswith("A's score is 0.7 everywhere")
    ill = a.target == 1
    (single,) = pair_versions([a.select(ill)], [make_job(1.0, seed=4).select(ill)], **OPTIONS)
    assert single.balanced_accuracy.value is None
    sides = make_side([]), make_side([], 2)
    assert describe_pairs(*sides, [single]) == [
        "Hold-out (90 shared images of 15 patients): the difference is undefined."
    ]


def test_the_words_say_who_is_better_or_that_nobody_is():
    a, b = make_job(0.2), make_job(3.0, seed=2)
    sides = make_side([a]), make_side([b], 2)
    (told,) = describe_pairs(*sides, pair_versions([a], [b], **OPTIONS))
    assert re.fullmatch(r"Hold-out \(180 shared .* B minus A is \+.*: osteo-unimodal-mri version 2 is better\.", told)
    (told,) = describe_pairs(*sides, pair_versions([a], [a], **OPTIONS))
    assert told.endswith("no difference beyond chance.")
    (told,) = describe_pairs(*sides, [])
    assert told.startswith("No image was scored by both versions")


def test_metrics_of_other_stages_are_side_by_side(tmp_path):
    metrics = {"stage_4.patient.roc_auc": 0.91, "stage_5.patient.balanced_accuracy": 0.75}
    sides = make_side([]), make_side([], 2, metrics=metrics)
    out = write_comparison(tmp_path / "page.html", *sides, stages=STAGES, synthetic=True, **OPTIONS)
    rows = [row.texts for row in Page(out.read_text(encoding="utf-8")).tables["metrics"][1:]]
    by_name = {(row[0], row[1]): row for row in rows}
    assert by_name["ROC AUC of scores", "Folds, by patient"][2:6] == ["–, 4", "–", "0.910", "–"]
    assert by_name["Balanced accuracy, %", "Hold-out, by patient"][3:7] == ["80.0", "75.0", "−5.0", "180"]


def test_origins_say_what_differs():
    other = make_side([], 2, tags={"git.commit": "77aa", "dvc.data": "aa.dir"}, settings={"architecture": "multimodal"})
    rows = {row["name"]: row["state"] for row in list_origins(make_side([]), other)}
    assert rows == {
        "git.commit": "differs",
        "dvc.data": "same",
        "synthetic": "not known",
        "settings: architecture": "differs",
    }


def test_the_page_is_whole_and_escapes_names(tmp_path):
    hostile = "<script>alert(1)</script>"
    sides = make_side([make_job(0.6)]), make_side([make_job(1.4, seed=2)], 2, name=hostile, aliases=(hostile,))
    out = write_comparison(tmp_path / "page.html", *sides, stages=STAGES, synthetic=True, **OPTIONS)
    page = Page(out.read_text(encoding="utf-8"))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.find("script") == [{}]
    assert page.text.index("Synthetic cohort") < page.text.index("Two versions side by side")
    assert page.headings == [1, 2, 2, 2, 2]
    assert "predictions" not in [link for link in page.links if link.startswith("http")]
    assert "stage-5/unimodal-mri-patient.parquet" in page.text
