"""Rules on who was trained on and who was tested, from the splits that are kept with a version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd

from osteo_models.evaluation.predictions import Predictions
from osteo_models.params import GateRule
from osteo_models.registry.rules.evidence import Evidence, Rule, RuleResult, failed, passed
from osteo_models.terms import modalities_of

SPLITS: Final = "splits/splits.csv"


def check_patient_disjoint(evidence: Evidence, rule: GateRule) -> RuleResult:
    """No patient is on two sides of a fold or of the patient-based set, and the predictions are of these folds."""
    needed = "every patient on one side of each split, and predictions made in these folds"
    if evidence.splits is None:
        return failed(rule, evidence.why_not(SPLITS), needed, lacking=True)
    if not any(protocol == "patient" for _, protocol in evidence.predictions):
        return failed(rule, _no_predictions(evidence), needed, lacking=True)
    faults = [
        f"{count} patients on two sides of {column}"
        for column in ("fold_patient", "patient_test")
        if (count := _count_torn(evidence.splits, column))
    ]
    for table in _folds(evidence):
        sides = table.image_id.size - _count_in_fold(table, evidence.splits)
        if sides:
            faults.append(f"{sides} of {table.image_id.size} predictions of {table.stage} are of another fold")
    if faults:
        return failed(rule, ", ".join(faults), needed)
    patients, tables = evidence.splits["patient_id"].nunique(), sum(1 for _ in _folds(evidence))
    return passed(rule, f"{patients} patients, {tables} tables of predictions in agreement", needed)


def check_holdout_untouched(evidence: Evidence, rule: GateRule) -> RuleResult:
    """Hold-out patients are in no fold, and the stages that test on them scored all their images and no others."""
    tables = [table for table in evidence.predictions.values() if table.validation == "holdout"]
    own = ", ".join(table.stage for table in tables) or "its own"
    needed = f"a hold-out of whole patients that no stage but {own} saw, scored in full"
    if evidence.splits is None:
        return failed(rule, evidence.why_not(SPLITS), needed, lacking=True)
    if not tables:
        return failed(rule, evidence.why_not("hold-out predictions"), needed, lacking=True)
    faults = list(_holdout_faults(evidence.splits))
    held = evidence.splits[evidence.splits["holdout"] == 1]
    for (stage, protocol), table in evidence.predictions.items():
        seen = int(np.isin(table.patient_id, held["patient_id"].to_numpy(str)).sum())
        if table.validation != "holdout" and seen:
            faults.append(f"{seen} images of hold-out patients in {stage} under the {protocol} protocol")
    scored = 0
    for table in tables:
        wanted = set(held[held["modality"].isin(modalities_of(table.images))]["image_id"])
        given, scored = set(table.image_id.tolist()), max(scored, len(wanted))
        if given - wanted:
            faults.append(f"{len(given - wanted)} images of {table.stage} are not in the hold-out")
        if wanted - given:
            faults.append(f"{len(wanted - given)} images of the hold-out were not scored in {table.stage}")
    if faults:
        return failed(rule, ", ".join(faults), needed)
    patients = held["patient_id"].nunique()
    return passed(rule, f"{scored} images scored, {patients} hold-out patients in no fold", needed)


def _holdout_faults(splits: pd.DataFrame) -> Iterator[str]:
    if count := _count_torn(splits, "holdout"):
        yield f"{count} patients on two sides of holdout"
    held = splits["holdout"] == 1
    trained = splits["patient_test"].eq(1) | splits["fold_image"].notna() | splits["fold_patient"].notna()
    if count := splits[held & trained]["patient_id"].nunique():
        yield f"{count} hold-out patients in a fold or in the patient-based set"
    if not held.any():
        yield "an empty hold-out"


def _count_torn(splits: pd.DataFrame, column: str) -> int:
    """Patients with two values in a column; images of the hold-out have no fold, which is no second one."""
    sides = splits.groupby("patient_id")[column].nunique(dropna=column != "fold_patient")
    return int((sides > 1).sum())


def _folds(evidence: Evidence) -> Iterator[Predictions]:
    for (_, protocol), table in evidence.predictions.items():
        if protocol == "patient" and table.validation == "folds":
            yield table


def _count_in_fold(table: Predictions, splits: pd.DataFrame) -> int:
    """Predictions whose fold is the one that the splits put their image in."""
    folds = splits.set_index("image_id")["fold_patient"].reindex(table.image_id)
    return int((folds.fillna(-1).to_numpy(np.int64) == table.fold).sum())


def _no_predictions(evidence: Evidence) -> str:
    return evidence.why_not("predictions")


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {"patient_disjoint": Rule(check_patient_disjoint), "holdout_untouched": Rule(check_holdout_untouched)}
)
