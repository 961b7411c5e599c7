"""Tables for `dvc plots`: a file for each cross-validation of a proposed network, whole patients left out."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from osteo_models.core.terms import proposed_network
from osteo_models.evaluation.metrics import Summary
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.roc import trace_roc

GRID: Final = np.linspace(0, 1, 101)
FOLDERS: Final = ("roc", "learning")


def write_plots(artifacts: Path, jobs: Iterable[Predictions], summaries: Mapping[str, Summary]) -> None:
    """Write balanced_accuracy.csv, and `<stage>-<images>.csv` in roc/ and learning/, to artifacts/evaluation/plots."""
    folder = artifacts / "evaluation" / "plots"
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)  # files of stages that are gone
        (folder / name).mkdir(parents=True)
    for job in jobs:
        if (job.validation, job.protocol, job.architecture) != ("folds", "patient", proposed_network(job.images)):
            continue
        file = f"{job.stage}-{job.images}.csv"
        _interpolate_roc(job).to_csv(folder / "roc" / file, index=False)
        curves = artifacts / "curves" / f"{job.name}.csv"
        if curves.is_file():
            _average_folds(curves).to_csv(folder / "learning" / file)
    values = {name: summary.flatten().get("balanced_accuracy") for name, summary in summaries.items()}
    table = pd.DataFrame({"job": list(values), "balanced_accuracy": list(values.values())})
    table.to_csv(folder / "balanced_accuracy.csv", index=False)


def _interpolate_roc(job: Predictions) -> pd.DataFrame:
    """The curve on a grid, so that those of two revisions share their first column; empty where a class is missing."""
    table = pd.DataFrame({"false_positive_rate": GRID.round(2), "true_positive_rate": np.nan})
    if np.unique(job.target).size == 2:
        curve = trace_roc(job.target, job.score)
        values = np.interp(GRID, curve.false_positive_rate, curve.true_positive_rate)
        table["true_positive_rate"] = values.round(4)
    return table


def _average_folds(path: Path) -> pd.Series:
    """Balanced accuracy on the test fold by epoch, mean of the folds."""
    return pd.read_csv(path).groupby("epoch")["test_balanced_accuracy"].mean().round(4).rename("balanced_accuracy")
