"""The hold-out scored by a network that no job tested on it: predictions and metrics like those of such a job."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from osteo_models.core.params import Evaluate
from osteo_models.core.terms import Protocol, Stage, metric_prefix
from osteo_models.evaluation.metrics import summarize
from osteo_models.evaluation.predictions import VALIDATION
from osteo_models.serving.network import LoadedNetwork
from osteo_models.training.job_data import Tables

PROTOCOL: Final[Protocol] = "patient"


def score_holdout(loaded: LoadedNetwork, tables: Tables, stage: Stage) -> pd.DataFrame:
    """The predictions table of the hold-out, with the columns and in the order of `artifacts/predictions`.

    Raises:
        InputError: The network scores no image by itself.
    """
    record = loaded.record
    of_set = tables.splits["modality"].isin(record.modalities)
    rows = np.flatnonzero((tables.splits["holdout"] == 1) & of_set)
    table = tables.splits.loc[rows, ["image_id", "patient_id", "modality", "target"]].reset_index(drop=True)
    score = loaded.score(np.asarray(tables.images[rows]), table["modality"].tolist())
    job = {
        "stage": stage,
        "architecture": record.architecture,
        "images": record.images,
        "protocol": PROTOCOL,
        "fold": 0,
    }
    for position, (name, value) in enumerate(job.items()):
        table.insert(position, name, value)
    table.attrs[VALIDATION] = "holdout"
    return table.assign(score=score)


def measure_holdout(predictions: pd.DataFrame, evaluate: Evaluate) -> dict[str, float]:
    """The metrics of such a table, by their full names."""
    summary = summarize(
        predictions["target"],
        predictions["score"],
        threshold=evaluate.threshold,
        patient_id=predictions["patient_id"],
    )
    return summary.flatten(metric_prefix(str(predictions["stage"].iloc[0]), PROTOCOL))
