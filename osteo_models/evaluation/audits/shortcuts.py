"""Audit: predictions from age, sex or the header alone, without an image.

Controls are young and patients old, so that a network may have learned age. A predictor without images is the baseline
that the networks must exceed; on the hold-out of close ages it should be at chance level.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
from sklearn.exceptions import ConvergenceWarning  # pyright: ignore[reportMissingTypeStubs]
from sklearn.linear_model import LogisticRegression  # pyright: ignore[reportMissingTypeStubs]

from osteo_models.core.terms import SINGLE_INPUT, VALIDATIONS, modalities_of
from osteo_models.evaluation.image_facts import HEADERS, SPLITS, Facts
from osteo_models.evaluation.metrics import COUNTS, Measure, Summary, summarize
from osteo_models.evaluation.paired import compare_scores
from osteo_models.evaluation.patient_level import MetricName
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.rows import ESTIMATE, INTERVAL, JOB_COLUMNS, Row, estimate_cells, identify
from osteo_models.evaluation.scored_cases import BoolArray, FloatArray

SHORTCUT_TABLES: Final[dict[str, tuple[str, ...]]] = {
    "shortcuts": (
        *("predictor", "kind", "images", "validation", "metric", *ESTIMATE, *COUNTS, "columns", "note", "source"),
    ),
    "beyond": (
        *(*JOB_COLUMNS, "predictor", "metric", "model", "shortcut", "difference", *INTERVAL, "n", "n_patients"),
        *("note", "source", "source_shortcut"),
    ),
}
PREDICTORS: Final = ("age", "sex", "header")
SHORTCUT_METRICS: Final[tuple[MetricName, ...]] = ("balanced_accuracy", "roc_auc")


@dataclass(frozen=True)
class Shortcut:
    """The scores of a predictor on the images of one set and validation.

    Args:
        columns: Names of its inputs.
        note: Why there are no scores; empty otherwise.

    Shapes:
        score: (N,), NaN for images that are not tested.
    """

    columns: tuple[str, ...]
    score: FloatArray
    note: str

    @property
    def tested(self) -> BoolArray:
        return ~np.isnan(self.score)


Key = tuple[str, str, str]  # predictor, image set, validation


def score_shortcuts(facts: Facts) -> dict[Key, Shortcut]:
    """Each predictor on each image set, by cross-validation and on both test sets."""
    shortcuts: dict[Key, Shortcut] = {}
    for images in SINGLE_INPUT:
        of_set = np.isin(facts.modality, modalities_of(images))
        for predictor in PREDICTORS:
            features = make_features(facts, predictor, of_set)
            for validation in VALIDATIONS:
                score, note = score_alone(facts, features, of_set, validation)
                shortcuts[predictor, images, validation] = Shortcut(tuple(features), score, note)
    return shortcuts


def shortcut_rows(facts: Facts, shortcuts: Mapping[Key, Shortcut], measure: Measure) -> Iterator[Row]:
    """One row per predictor, image set, validation and metric."""
    for (predictor, images, validation), shortcut in shortcuts.items():
        row: Row = {"predictor": predictor, "kind": "shortcut", "images": images, "validation": validation}
        row |= {"columns": ";".join(shortcut.columns), "note": shortcut.note, "source": _source(predictor)}
        if shortcut.note:
            yield from (row | {"metric": name, "interval": "undefined"} for name in SHORTCUT_METRICS)
            continue
        summary = summarize(
            facts.target[shortcut.tested],
            shortcut.score[shortcut.tested],
            threshold=measure.threshold,
            patient_id=facts.patient_id[shortcut.tested].tolist(),
        )
        yield from (row | cells for cells in metric_cells(summary))


def beyond_rows(job: Predictions, facts: Facts, shortcuts: Mapping[Key, Shortcut], measure: Measure) -> Iterator[Row]:
    """Image model minus each predictor, on the same images."""
    rows = facts.find_rows(job.image_id)
    for predictor in PREDICTORS:
        shortcut = shortcuts[predictor, "combined" if job.images == "multimodal" else job.images, job.validation]
        row: Row = identify(job) | {"predictor": predictor, "source_shortcut": _source(predictor)}
        both = shortcut.tested[rows]
        if not both.any():
            yield from (
                row | {"metric": name, "note": shortcut.note or "no image of both"} for name in SHORTCUT_METRICS
            )
            continue
        part = job.select(both)
        alone = replace(part.cases, score=shortcut.score[rows][both])
        row |= {"n": part.target.size, "n_patients": int(np.unique(part.patient_id).size)}
        for name, gap in compare_scores(part.cases, alone, SHORTCUT_METRICS, measure).items():
            cells: Row = {"metric": name, "model": gap.first, "shortcut": gap.second, "difference": gap.value}
            yield row | cells | {"ci_low": gap.ci_low, "ci_high": gap.ci_high}


def _source(predictor: str) -> str:
    return HEADERS if predictor == "header" else SPLITS


def metric_cells(summary: Summary) -> Iterator[Row]:
    """One set of cells per metric, with its interval and counts."""
    counts: Row = {name: getattr(summary, name) for name in COUNTS}
    yield from (estimate_cells(name, summary.estimates()[name]) | counts for name in SHORTCUT_METRICS)


def make_features(facts: Facts, predictor: str, rows: BoolArray) -> dict[str, FloatArray]:
    """The columns, (N,), of a predictor that differ between these images; missing values add a column."""
    if predictor == "age":
        columns = {"age_years": facts.age_years}
    elif predictor == "sex":
        columns = {"female": (facts.sex == "F").astype(np.float64)}
    else:
        columns = dict(facts.numbers)
        for name in np.unique(facts.scanner[rows & (facts.scanner != "")])[1:]:
            columns[f"scanner {name}"] = (facts.scanner == name).astype(np.float64)
    usable: dict[str, FloatArray] = {}
    for name, values in columns.items():
        missing = np.isnan(values)
        observed = values[rows & ~missing]
        if observed.size and float(np.ptp(observed)) > 0:
            usable[name] = np.where(missing, float(observed.mean()), values)
        if observed.size and missing[rows].any():
            usable[f"{name} unknown"] = missing.astype(np.float64)
    return usable


def score_alone(
    facts: Facts, features: Mapping[str, FloatArray], of_set: BoolArray, validation: str
) -> tuple[FloatArray, str]:
    """Scores of the tested images by a logistic regression on the others, NaN elsewhere; and why there are none.

    Whole patients are left out in each validation, those of the networks themselves.
    """
    nothing = np.full(of_set.size, np.nan)
    if not features:
        return nothing, "undefined: the same for all images"
    parts: list[tuple[BoolArray, BoolArray]] = []
    if validation == "folds":
        folds = facts.sides["fold_patient"]
        for fold in np.unique(folds[folds >= 0]):
            parts.append((of_set & (folds >= 0) & (folds != fold), of_set & (folds == fold)))
    else:
        sides = facts.sides[validation]
        parts.append((of_set & (sides == 0) & facts.development, of_set & (sides == 1)))
    scored, values = nothing.copy(), np.stack(list(features.values()), axis=1)
    for train, test in parts:
        if np.unique(facts.target[train]).size < 2:
            return nothing, "undefined: one class to learn from"
        if test.any():
            scored[test] = _fit_and_score(values, facts.target, train, test)
    return scored, "no images" if np.isnan(scored).all() else ""


def _fit_and_score(values: FloatArray, target: Any, train: BoolArray, test: BoolArray) -> FloatArray:
    centre = values[train].mean(axis=0)
    spread = values[train].std(axis=0)
    scaled = (values - centre) / np.where(spread > 0, spread, 1)
    model = cast(Any, LogisticRegression)(solver="newton-cholesky")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(scaled[train], target[train])
    return cast(FloatArray, model.predict_proba(scaled[test])[:, 1])
