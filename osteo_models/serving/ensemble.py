"""Fold ensembles: the networks of a job's folds written as one model folder, and their scores of the hold-out.

The tensors of network k have the prefix `members.k.`, and `model.json` has the number of members, so an ensemble is
registered, checked, promoted and served like any other model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from osteo_models.core.errors import StaleDataError
from osteo_models.core.params import Evaluate, Params
from osteo_models.core.terms import Protocol, Stage, metric_prefix
from osteo_models.evaluation.metrics import summarize
from osteo_models.evaluation.predictions import VALIDATION
from osteo_models.models import build
from osteo_models.serving.model_record import RECORD, WEIGHTS
from osteo_models.serving.network import Ensemble, LoadedNetwork
from osteo_models.training.checkpoint import load_weights, save_weights
from osteo_models.training.job_data import Tables

PROTOCOL: Final[Protocol] = "patient"


def find_folds(artifacts: Path, params: Params, architecture: str, images: str) -> dict[str, Any] | None:
    """The entry in jobs.json of the job whose folds form an ensemble: cross-validation, patients apart; None if none.

    Returns:
        Its entry in jobs.json; None where there was no such job.
    """
    jobs: list[dict[str, Any]] = json.loads((artifacts / "jobs.json").read_text(encoding="utf-8"))
    wanted = {"architecture": architecture, "images": images, "protocol": PROTOCOL}
    found = {job["stage"]: job for job in jobs if all(job[name] == value for name, value in wanted.items())}
    return next((found[stage] for stage in params.stage_table.select("folds") if stage in found), None)


def write_ensemble(target: Path, record: Mapping[str, Any], weights: Sequence[Path], *, key: str) -> None:
    """Write the model folder of an ensemble.

    Args:
        target: Folder to make.
        record: `model.json` of a single network, with the job whose folds are the members.
        weights: One file for each fold.
        key: Key of that job.

    Raises:
        StaleDataError: The weights of a fold are missing.
        WeightsError: They are damaged, or of another architecture.
    """
    if missing := [str(path) for path in weights if not path.is_file()]:
        raise StaleDataError(
            f"{len(missing)} of {len(weights)} fold networks are missing",
            where=missing[0],
            remedy="train the folds again with `dvc repro -f experiments`",
        )
    members = [build(record["architecture"], **record["spec"]) for _ in weights]
    for member, path in zip(members, weights, strict=True):
        load_weights(path, member)
    target.mkdir(parents=True, exist_ok=True)
    facts = {"architecture": record["architecture"], "job": key, "members": len(members)}
    save_weights(target / WEIGHTS, Ensemble(members), facts)
    text = json.dumps({**record, "key": key, "members": len(members)}, indent=1) + "\n"
    (target / RECORD).write_text(text, encoding="utf-8")


def score_holdout(loaded: LoadedNetwork, tables: Tables, stage: Stage) -> pd.DataFrame:
    """Score the hold-out: a predictions table with the columns and the order of `artifacts/predictions`.

    Raises:
        InputError: The network scores no image by itself.
    """
    record = loaded.record
    of_set = tables.splits["modality"].isin(record.modalities)
    rows = np.flatnonzero((tables.splits["holdout"] == 1) & of_set)
    table = tables.splits.loc[rows, ["image_id", "patient_id", "modality", "target"]].reset_index(drop=True)
    score = loaded.score(np.asarray(tables.images[rows]), table["modality"].tolist())
    job = {"stage": stage, "architecture": record.architecture, "images": record.images, "protocol": PROTOCOL}
    for position, (name, value) in enumerate({**job, "fold": 0}.items()):
        table.insert(position, name, value)
    table.attrs[VALIDATION] = "holdout"
    return table.assign(score=score)


def measure_holdout(predictions: pd.DataFrame, evaluate: Evaluate) -> dict[str, float]:
    """The metrics of such a table, by their full names."""
    patients, threshold = predictions["patient_id"], evaluate.threshold
    summary = summarize(predictions["target"], predictions["score"], threshold=threshold, patient_id=patients)
    return summary.flatten(metric_prefix(str(predictions["stage"].iloc[0]), PROTOCOL))
