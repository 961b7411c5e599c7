"""Audit: how far age, sex or the header alone get, without an image.

Controls are young and patients old, so that a network may have learnt to see age. A predictor that never saw an image
sets the mark that the networks must pass; on the hold-out of close ages it should fall to chance.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
from sklearn.exceptions import ConvergenceWarning  # pyright: ignore[reportMissingTypeStubs]
from sklearn.linear_model import LogisticRegression  # pyright: ignore[reportMissingTypeStubs]

from osteo_models.core.terms import VALIDATIONS, ImageSet, modalities_of
from osteo_models.evaluation.image_facts import HEADERS, SPLITS, Facts
from osteo_models.evaluation.metrics import Measure, Summary, summarize
from osteo_models.evaluation.paired import compare_scores
from osteo_models.evaluation.patient_sums import MetricName
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.rows import Row, identify
from osteo_models.evaluation.scored_cases import BoolArray, FloatArray

PREDICTORS: Final = ("age", "sex", "header")
SHORTCUT_METRICS: Final[tuple[MetricName, ...]] = ("balanced_accuracy", "roc_auc")
SETS: Final[tuple[ImageSet, ...]] = ("mri", "ct", "combined")


@dataclass(frozen=True)
class Features:
    """Columns of numbers for a logistic regression: (N, F), with their names."""

    values: FloatArray
    names: tuple[str, ...]


@dataclass(frozen=True)
class Shortcut:
    """What a predictor made of the images of one set and validation.

    Args:
        columns: What it was given.
        note: Why there are no scores; empty where there are.

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
    found: dict[Key, Shortcut] = {}
    for images in SETS:
        of_set = np.isin(facts.modality, modalities_of(images))
        for predictor in PREDICTORS:
            features = make_features(facts, predictor, of_set)
            for validation in VALIDATIONS:
                score, note = score_alone(facts, features, of_set, validation)
                found[predictor, images, validation] = Shortcut(features.names, score, note)
    return found


def shortcut_rows(facts: Facts, shortcuts: Mapping[Key, Shortcut], measure: Measure) -> Iterator[Row]:
    """One row per predictor, image set, validation and metric."""
    for (predictor, images, validation), one in shortcuts.items():
        row: Row = {"predictor": predictor, "kind": "shortcut", "images": images, "validation": validation}
        row |= {"columns": ";".join(one.columns), "note": one.note, "source": _source(predictor)}
        if one.note:
            yield from (row | {"metric": name, "interval": "undefined"} for name in SHORTCUT_METRICS)
            continue
        summary = summarize(
            facts.target[one.tested],
            one.score[one.tested],
            threshold=measure.threshold,
            patient_id=facts.patient_id[one.tested].tolist(),
        )
        yield from (row | cells for cells in metric_cells(summary))


def beyond_rows(job: Predictions, facts: Facts, shortcuts: Mapping[Key, Shortcut], measure: Measure) -> Iterator[Row]:
    """How much more an image model knows than each predictor, on the same images."""
    rows = facts.find_rows(job.image_id)
    for predictor in PREDICTORS:
        one = shortcuts[predictor, "combined" if job.images == "multimodal" else job.images, job.validation]
        row: Row = identify(job) | {"predictor": predictor, "source_shortcut": _source(predictor)}
        both = one.tested[rows]
        if not both.any():
            yield from (row | {"metric": name, "note": one.note or "no image of both"} for name in SHORTCUT_METRICS)
            continue
        part = job.select(both)
        alone = replace(part.cases, score=one.score[rows][both])
        row |= {"n": part.target.size, "n_patients": int(np.unique(part.patient_id).size)}
        for name, found in compare_scores(part.cases, alone, SHORTCUT_METRICS, measure).items():
            cells: Row = {"metric": name, "model": found.first, "shortcut": found.second, "difference": found.value}
            yield row | cells | {"ci_low": found.ci_low, "ci_high": found.ci_high}


def _source(predictor: str) -> str:
    return HEADERS if predictor == "header" else SPLITS


def metric_cells(summary: Summary, names: Sequence[MetricName] = SHORTCUT_METRICS) -> Iterator[Row]:
    """One set of cells per metric, with its interval and counts."""
    for name in names:
        estimate = summary.estimates()[name]
        row: Row = {"metric": name, "value": estimate.value, "ci_low": estimate.ci_low, "ci_high": estimate.ci_high}
        row |= {"interval": estimate.interval, "n": summary.n, "n_patients": summary.n_patients}
        yield row | {"n_positive": summary.n_positive, "n_negative": summary.n_negative}


def make_features(facts: Facts, predictor: str, rows: BoolArray) -> Features:
    """The columns of a predictor that differ between these images; a value that is lacking becomes a column too."""
    if predictor == "age":
        columns = {"age_years": facts.age_years}
    elif predictor == "sex":
        columns = {"female": (facts.sex == "F").astype(np.float64)}
    else:
        columns = dict(facts.numbers)
        for name in np.unique(facts.scanner[rows & (facts.scanner != "")])[1:]:
            columns[f"scanner {name}"] = (facts.scanner == name).astype(np.float64)
    kept: dict[str, FloatArray] = {}
    for name, values in columns.items():
        lacking = np.isnan(values)
        known = values[rows & ~lacking]
        if known.size and float(np.ptp(known)) > 0:
            kept[name] = np.where(lacking, float(known.mean()), values)
        if known.size and lacking[rows].any():
            kept[f"{name} unknown"] = lacking.astype(np.float64)
    shape = np.stack(list(kept.values()), axis=1) if kept else np.zeros((rows.size, 0))
    return Features(shape, tuple(kept))


def score_alone(facts: Facts, features: Features, of_set: BoolArray, validation: str) -> tuple[FloatArray, str]:
    """Scores of the tested images by a logistic regression on the others, NaN elsewhere; and why there are none.

    Whole patients are left out in each validation, those of the networks themselves.
    """
    nothing = np.full(of_set.size, np.nan)
    if not features.names:
        return nothing, "undefined: the same for all images"
    parts: list[tuple[BoolArray, BoolArray]] = []
    if validation == "folds":
        folds = facts.sides["fold_patient"]
        for fold in np.unique(folds[folds >= 0]):
            parts.append((of_set & (folds >= 0) & (folds != fold), of_set & (folds == fold)))
    else:
        sides = facts.sides[validation]
        parts.append((of_set & (sides == 0) & facts.development, of_set & (sides == 1)))
    scored = nothing.copy()
    for train, test in parts:
        if np.unique(facts.target[train]).size < 2:
            return nothing, "undefined: one class to learn from"
        if test.any():
            scored[test] = _fit_and_score(features.values, facts.target, train, test)
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
