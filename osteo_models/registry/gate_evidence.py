"""Evidence of a version for the gate: from the store and from the files kept with the version."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

import pandas as pd
from mlflow.exceptions import MlflowException

from osteo_models.core.errors import InputError, StaleDataError, WeightsError
from osteo_models.core.files import hash_file
from osteo_models.core.terms import Protocol, Stage
from osteo_models.data.code_tree import find_code
from osteo_models.data.tables import read_frame
from osteo_models.evaluation.predictions import SUFFIX, Predictions, read_predictions
from osteo_models.registry.manifest import MANIFEST, Damage, read_manifest
from osteo_models.registry.package import EVIDENCE, MODEL, RECORDS, open_package
from osteo_models.registry.records import find_changes
from osteo_models.registry.rules.comparison_rules import SHORTCUTS
from osteo_models.registry.rules.metric_rules import GROUPS
from osteo_models.registry.rules.provenance_rules import RECORD_OF_FILES, SPLITS
from osteo_models.registry.rules.results import ChampionComparison, Evidence, Row
from osteo_models.registry.runs import PARENT_TAG
from osteo_models.registry.store import is_missing
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import VersionInfo
from osteo_models.serving.model_record import read_record

PREDICTIONS: Final = "predictions"
TABLE_COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    SHORTCUTS: frozenset({"predictor", "images", "validation", "metric", "value"}),
    GROUPS: frozenset(
        {"stage", "architecture", "images", "protocol", "by", "group", "metric", "value", "ci_high", "n_patients"}
    ),
}
SPLIT_COLUMNS: Final = frozenset(
    {"image_id", "patient_id", "modality", "holdout", "patient_test", "fold_image", "fold_patient"}
)


def read_stored_evidence(tracking: Tracking, version: VersionInfo) -> Evidence:
    """Read the files kept with a version; unusable ones are named in `faults`, and the rules report them.

    A version that something else registered keeps no files of ours.

    Raises:
        StoreError: The store does not answer, or a file that it lists cannot be read.
    """
    stored = Evidence(version.metrics, version.tags, card=version.description)
    if not version.model_id:
        return stored
    try:
        with open_package(tracking, version, check=False) as package, tracking.reading():
            return _read_files(stored, package.folder, package.find_damage())
    except StaleDataError as error:  # MLflow lost the model, and with it the files
        return replace(stored, faults={RECORD_OF_FILES: error.found})


def complete_evidence(
    tracking: Tracking,
    version: VersionInfo,
    stored: Evidence,
    comparison: ChampionComparison | None = None,
    root: Path | None = None,
) -> Evidence:
    """Add to the stored evidence of a version what the store and the repository know.

    Args:
        version: The version to judge.
        stored: From `read_stored_evidence`.
        comparison: With the champion.
        root: The project's folder, whose repository may hold the version's code.

    Raises:
        OsteoError: Git cannot be used, or the store does not answer.
    """
    with tracking.reading():
        job = _read_job_tags(tracking, version)
    changes = stored.changes
    if not changes and stored.recorded:
        try:
            with open_package(tracking, version, RECORDS, check=False) as package:
                changes = tuple(find_changes(package))
        except StaleDataError as error:
            changes = (error.found,)
    code = find_code(root, version.tags) if root else None
    return replace(stored, job=job, changes=changes, code=code, comparison=comparison)


def _read_files(stored: Evidence, folder: Path, damage: Sequence[Damage]) -> Evidence:
    faults = {RECORD_OF_FILES: str(damage[0])} if damage and damage[0].name == MANIFEST else {}
    evidence = folder / EVIDENCE
    splits, digest = _read_splits(evidence / SPLITS, faults)
    stored = replace(
        stored,
        recorded={} if RECORD_OF_FILES in faults else read_manifest(folder),
        changes=tuple(map(str, damage)),
        predictions=_read_predictions(evidence, faults),
        splits=splits,
        splits_digest=digest,
        shortcuts=_read_table(evidence, SHORTCUTS, faults),
        groups=_read_table(evidence, GROUPS, faults),
        faults=faults,
    )
    try:
        record = read_record(folder / MODEL)
    except WeightsError as error:
        faults["threshold"] = error.found
        return stored
    return replace(
        stored,
        threshold=record.threshold,
        architecture=record.architecture,
        images=record.images,
        modalities=record.modalities,
    )


def _read_splits(path: Path, faults: dict[str, str]) -> tuple[pd.DataFrame | None, str]:
    if not path.is_file():
        return None, ""
    digest = hash_file(path, "md5")
    try:
        table = read_frame(path)
        _check_columns(SPLIT_COLUMNS, table)
    except (ValueError, KeyError) as error:
        faults[SPLITS] = f"cannot be read ({str(error).splitlines()[0]})"
        return None, digest
    return table, digest


def _read_table(evidence: Path, name: str, faults: dict[str, str]) -> list[Row] | None:
    if not (evidence / name).is_file():
        return None
    try:
        table = pd.read_csv(evidence / name, dtype=str, keep_default_na=False).fillna("")
        _check_columns(TABLE_COLUMNS[name], table)
        for column in {"value", "ci_high", "n_patients"} & set(table.columns):
            table[column].replace("", "nan").astype(float)
    except ValueError as error:
        faults[name] = f"cannot be read ({str(error).splitlines()[0]})"
        return None
    return cast(list[Row], table.to_dict("records"))


def _check_columns(needed: frozenset[str], table: pd.DataFrame) -> None:
    if missing := needed - set(table.columns):
        raise ValueError(f"without {', '.join(sorted(missing))}")


def _read_predictions(evidence: Path, faults: dict[str, str]) -> dict[tuple[Stage, Protocol], Predictions]:
    if not any(evidence.glob(f"*/*{SUFFIX}")):
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / PREDICTIONS).symlink_to(
            evidence.absolute()
        )  # as in artifacts/, where they are read and checked
        try:
            return {(table.stage, table.protocol): table for table in read_predictions(Path(scratch))}
        except InputError as error:
            faults[PREDICTIONS] = error.found
            return {}


def _read_job_tags(tracking: Tracking, version: VersionInfo) -> dict[str, str]:
    """Tags of the run that trained the weights; none where the store no longer has it."""
    try:
        run = tracking.client.get_run(version.run_id)
        parent = run.data.tags.get(PARENT_TAG)
        return dict(tracking.client.get_run(parent).data.tags) if parent else {}
    except MlflowException as error:
        if not is_missing(error):
            raise
        return {}
