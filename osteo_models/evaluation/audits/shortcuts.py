"""Audit: how far age, sex or the header alone get, without an image.

Controls are young and patients old, so that a network may have learnt to see age. A predictor that never saw an image
sets the mark that the networks must pass; on the hold-out of close ages it should fall to chance.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from sklearn.exceptions import ConvergenceWarning  # pyright: ignore[reportMissingTypeStubs]
from sklearn.linear_model import LogisticRegression  # pyright: ignore[reportMissingTypeStubs]

from osteo_models.evaluation.bootstrap import MetricName
from osteo_models.evaluation.cases import BoolArray, FloatArray
from osteo_models.evaluation.facts import HEADERS, SPLITS, Facts
from osteo_models.evaluation.metrics import Measure, Summary, summarize
from osteo_models.evaluation.rows import Row
from osteo_models.terms import ImageSet, modalities_of

PREDICTORS: Final = ("age", "sex", "header")
SHORTCUT_METRICS: Final[tuple[MetricName, ...]] = ("balanced_accuracy", "roc_auc")
VALIDATIONS: Final = ("folds", "holdout", "patient_test")
SETS: Final[tuple[ImageSet, ...]] = ("mri", "ct", "combined")


@dataclass(frozen=True)
class Features:
    """Columns of numbers for a logistic regression: (N, F), with their names."""

    values: FloatArray
    names: tuple[str, ...]


def shortcut_rows(facts: Facts, measure: Measure) -> Iterator[Row]:
    """One row per predictor, image set, validation and metric."""
    for images in SETS:
        of_set = np.isin(facts.modality, modalities_of(images))
        for predictor in PREDICTORS:
            features = make_features(facts, predictor, of_set)
            for validation in VALIDATIONS:
                row: Row = {"predictor": predictor, "kind": "shortcut", "images": images, "validation": validation}
                row |= {"columns": ";".join(features.names), "source": HEADERS if predictor == "header" else SPLITS}
                scored, note = score_alone(facts, features, of_set, validation)
                if scored is None:
                    yield from (row | {"metric": name, "note": note} for name in SHORTCUT_METRICS)
                    continue
                tested = ~np.isnan(scored)
                summary = summarize(
                    facts.target[tested],
                    scored[tested],
                    threshold=measure.threshold,
                    patient_id=facts.patient_id[tested].tolist(),
                    seed=measure.seed,
                    resamples=measure.resamples,
                )
                yield from (row | cells for cells in metric_cells(summary))


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


def score_alone(facts: Facts, features: Features, of_set: BoolArray, validation: str) -> tuple[FloatArray | None, str]:
    """Scores of the tested images by a logistic regression on the others, NaN elsewhere; or why there are none.

    Whole patients are left out in each validation, those of the networks themselves.
    """
    if not features.names:
        return None, "undefined: the same for all images"
    parts: list[tuple[BoolArray, BoolArray]] = []
    if validation == "folds":
        folds = facts.sides["fold_patient"]
        for fold in np.unique(folds[folds >= 0]):
            parts.append((of_set & (folds >= 0) & (folds != fold), of_set & (folds == fold)))
    else:
        sides = facts.sides[validation]
        parts.append((of_set & (sides == 0) & facts.development, of_set & (sides == 1)))
    scored = np.full(of_set.size, np.nan)
    for train, test in parts:
        if np.unique(facts.target[train]).size < 2:
            return None, "undefined: one class to learn from"
        scored[test] = _fit_and_score(features.values, facts.target, train, test)
    return (None, "no images") if np.isnan(scored).all() else (scored, "")


def _fit_and_score(values: FloatArray, target: Any, train: BoolArray, test: BoolArray) -> FloatArray:
    centre = values[train].mean(axis=0)
    spread = values[train].std(axis=0)
    scaled = (values - centre) / np.where(spread > 0, spread, 1)
    model = cast(Any, LogisticRegression)(solver="newton-cholesky")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(scaled[train], target[train])
    return cast(FloatArray, model.predict_proba(scaled[test])[:, 1])
