"""Rules on where a version comes from: pinned code, data and splits, files as they were registered, a whole card."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd

from osteo_models.core.params import GateRule
from osteo_models.core.terms import Stage, find_stages, metric_prefix, modalities_of
from osteo_models.data.code_tree import TREE
from osteo_models.evaluation.metrics import estimate_metrics
from osteo_models.evaluation.patient_level import MetricName, sum_patients
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.scored_cases import check_cases
from osteo_models.registry.rules.results import Evidence, Rule, RuleResult, failed, passed

SPLITS: Final = "splits/splits.csv"
DIGEST: Final = re.compile(r"[0-9a-f]{32}(\.dir)?")
RECOMPUTED: Final[tuple[MetricName, ...]] = ("balanced_accuracy", "roc_auc", "brier")
RECORD_OF_FILES: Final = "record of the files"
TOLERANCE: Final = 1e-9


def check_patient_disjoint(evidence: Evidence, rule: GateRule) -> RuleResult:
    """No patient is on two sides of a fold or of the patient-based set, and the predictions are of these folds."""
    needed = "every patient on one side of each split, and predictions made in these folds"
    if evidence.splits is None:
        return failed(rule, evidence.why_not(SPLITS), needed, missing_evidence=True)
    if not any(protocol == "patient" for _, protocol in evidence.predictions):
        return failed(rule, _no_predictions(evidence), needed, missing_evidence=True)
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
        return failed(rule, evidence.why_not(SPLITS), needed, missing_evidence=True)
    if not tables:
        return failed(rule, evidence.why_not("hold-out predictions"), needed, missing_evidence=True)
    faults = list(_holdout_faults(evidence.splits))
    held = evidence.splits[evidence.splits["holdout"] == 1]
    for (stage, protocol), table in evidence.predictions.items():
        seen = int(np.isin(table.patient_id, held["patient_id"].to_numpy(str)).sum())
        if table.validation != "holdout" and seen:
            faults.append(f"{seen} images of hold-out patients in {stage} under the {protocol} protocol")
    scored = 0
    for table in tables:
        wanted = set(held[held["modality"].isin(evidence.modalities or modalities_of(table.images))]["image_id"])
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


def check_code_pinned(evidence: Evidence, rule: GateRule) -> RuleResult:
    """A commit on a branch holds exactly the code and parameters that the version was registered with."""
    needed, code = "the code of this version in a commit on a branch", evidence.code
    if code is None:
        return failed(rule, "no repository to look in", needed, missing_evidence=True)
    if not code.commit:
        return failed(rule, code.found, needed, missing_evidence=True, remedy=code.remedy)
    return passed(rule, f"commit {code.commit[:12]} holds it", needed)


def check_data_pinned(evidence: Evidence, rule: GateRule) -> RuleResult:
    """Data and splits have their hashes, the splits kept are these, and the run that trained it is of the same job.

    A job's key holds the images and folds by their content. The run may name an older revision of the data or splits,
    in which they were the same.
    """
    needed = "hashes of data and splits, those of the splits kept with it, and the run of the job that trained it"
    missing = [name for name in ("dvc.data", "dvc.splits") if not evidence.tags.get(name)]
    if missing:
        return failed(rule, f"no {' and no '.join(missing)}", needed, missing_evidence=True)
    faults = [
        f"{name} is {evidence.tags[name]!r}, no MD5"
        for name in ("dvc.data", "dvc.splits")
        if not DIGEST.fullmatch(evidence.tags[name])
    ]
    run, version = evidence.job.get("osteo.job"), evidence.tags.get("osteo.job")
    if evidence.job and run != version:
        faults.append(f"the run is of job {run}, not {version}")
    if evidence.splits_digest and evidence.splits_digest != evidence.tags["dvc.splits"]:
        faults.append(
            f"the splits kept are {_short(evidence.splits_digest)}, not {_short(evidence.tags['dvc.splits'])}"
        )
    if faults:
        return failed(rule, ", ".join(faults), needed)
    if not evidence.job:
        return failed(rule, "the run that trained it is not in the store", needed, missing_evidence=True)
    if not evidence.splits_digest:
        return failed(rule, evidence.why_not(SPLITS), needed, missing_evidence=True)
    shown = f"data {_short(evidence.tags['dvc.data'])}, splits {_short(evidence.tags['dvc.splits'])}"
    return passed(rule, shown, needed)


def check_files_intact(evidence: Evidence, rule: GateRule) -> RuleResult:
    """Every file of the version and, like them, tags, metrics and card are as they were registered."""
    needed = "every file, tag and metric as it was registered"
    if not evidence.recorded:
        changed = RECORD_OF_FILES in evidence.faults
        return failed(rule, evidence.why_not(RECORD_OF_FILES), needed, missing_evidence=not changed)
    if evidence.changes:
        return failed(rule, ", ".join(evidence.changes), needed)
    return passed(rule, f"{len(evidence.recorded)} files as registered", needed)


def check_metrics_match(evidence: Evidence, rule: GateRule) -> RuleResult:
    """The numbers of each listed stage are those of the predictions that are kept with the version."""
    needed = f"{', '.join(RECOMPUTED)} with their intervals and n as computed from the predictions kept with it"
    stages: list[Stage] = [stage for stage in rule.stages if evidence.took_part(stage)]
    absent = [stage for stage in stages if (stage, "patient") not in evidence.predictions]
    if not stages:
        return failed(rule, f"no metrics in {', '.join(rule.stages)}", needed, missing_evidence=True)
    if absent:
        return failed(rule, evidence.why_not(f"{absent[0]} predictions"), needed, missing_evidence=True)
    if evidence.threshold is None:
        return failed(rule, evidence.why_not("threshold"), needed, missing_evidence=True)
    faults: list[str] = []
    for stage in stages:
        table, prefix = evidence.predictions[stage, "patient"], metric_prefix(stage, "patient")
        for name, value in _recompute(table, evidence.threshold):
            stated = evidence.metrics.get(f"{prefix}.{name}")
            if (stated is None) != np.isnan(value) or (stated is not None and not abs(stated - value) <= TOLERANCE):
                faults.append(f"{stage} {name} is stated as {stated}, computed as {value:.6g}")
    if faults:
        return failed(rule, ", ".join(faults), needed)
    return passed(rule, f"{', '.join(stages)} as computed", needed)


def check_card(evidence: Evidence, rule: GateRule) -> RuleResult:
    """The card names data, splits, code, job and weights, has a line for each stage, and says what it is not."""
    needed = "a card with its origin, a line for each stage, and its limits"
    if not evidence.card.strip():
        return failed(rule, "no card", needed, missing_evidence=True)
    missing = [label for label, text in _card_parts(evidence) if text not in evidence.card]
    if missing:
        return failed(rule, f"the card does not give {', '.join(missing)}", needed)
    return passed(rule, "nothing missing", needed)


def _card_parts(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """What a card must hold, and the text by which it is found; what is not known cannot be in it."""
    for label, tag in (("weights", "osteo.weights"), ("job", "osteo.job"), ("code", TREE)):
        yield label, f"`{evidence.tags.get(tag) or '(none)'}`"
    for label, tag in (("data", "dvc.data"), ("splits", "dvc.splits")):
        yield label, f"`{evidence.tags.get(tag) or '(none)'}`"
    for stage in find_stages(evidence.metrics):
        if evidence.took_part(stage):
            yield f"the line of {stage}", f"| {stage} | patient |"
    if evidence.tags.get("synthetic") == "true":
        yield "the notice that the cohort is synthetic", "Synthetic cohort"
    yield "the sentence that it is no medical device", "No medical device"


def _recompute(table: Predictions, threshold: float) -> Iterator[tuple[str, float]]:
    sums = sum_patients(check_cases(table.target, table.score, table.patient_id), threshold)
    for name, one in estimate_metrics(sums, RECOMPUTED).items():
        for part, value in (("", one.value), (".ci_low", one.ci_low), (".ci_high", one.ci_high)):
            yield f"{name}{part}", np.nan if value is None else value
    yield "n", float(table.target.size)
    yield "n_patients", float(sums.positives.size)


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "unknown"


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "patient_disjoint": Rule(check_patient_disjoint),
        "holdout_untouched": Rule(check_holdout_untouched),
        "code_pinned": Rule(check_code_pinned),
        "data_pinned": Rule(check_data_pinned),
        "files_intact": Rule(check_files_intact),
        "metrics_match": Rule(check_metrics_match, ("stages",)),
        "card": Rule(check_card),
    }
)
