"""The small files that git keeps for `dvc metrics`, `dvc plots` and `dvc exp show`: a clone without a remote has them.

They hold the proposed networks, tested on patients that they were not trained on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from osteo_models.core.files import write_atomically
from osteo_models.core.terms import proposed_network
from osteo_models.evaluation.metrics import Summary
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.roc import trace_roc

HEADLINE: Final = ("balanced_accuracy", "balanced_accuracy.ci_low", "balanced_accuracy.ci_high", "roc_auc")
GRID: Final = np.linspace(0, 1, 101)
FOLDERS: Final = ("roc", "learning")


def write_headline(artifacts: Path, jobs: Iterable[Predictions], summaries: Mapping[str, Summary]) -> None:
    """Write the metrics in `HEADLINE` by stage and image set to artifacts/metrics/evaluation.json."""
    stages: dict[str, dict[str, dict[str, float]]] = {}
    for job in filter(_is_headline, jobs):
        metrics = summaries[job.name].flatten()
        values = {name.removeprefix("balanced_accuracy."): metrics[name] for name in HEADLINE if name in metrics}
        stages.setdefault(job.stage, {})[job.images] = {name: round(value, 4) for name, value in values.items()}
    write_atomically(artifacts / "metrics" / "evaluation.json", json.dumps(stages, indent=1) + "\n")


def _is_headline(job: Predictions) -> bool:
    return (job.protocol, job.architecture) == ("patient", proposed_network(job.images))


def write_plots(artifacts: Path, jobs: Iterable[Predictions], summaries: Mapping[str, Summary]) -> None:
    """Write balanced_accuracy.csv, and `<stage>-<images>.csv` in roc/ and learning/, to artifacts/plots."""
    folder = artifacts / "plots"
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)  # files of stages that are gone
        (folder / name).mkdir(parents=True)
    for job in jobs:
        if job.validation != "folds" or not _is_headline(job):
            continue
        file = f"{job.stage}-{job.images}.csv"
        _interpolate_roc(job).to_csv(folder / "roc" / file, index=False)
        curves = artifacts / "curves" / f"{job.name}.csv"
        if curves.is_file():
            _average_folds(curves).to_csv(folder / "learning" / file)
    values = {name: summary.flatten().get("balanced_accuracy") for name, summary in summaries.items()}
    table = pd.DataFrame({"job": list(values), "balanced_accuracy": list(values.values())})
    table.round(4).to_csv(folder / "balanced_accuracy.csv", index=False)


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
