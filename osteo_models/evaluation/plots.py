"""Tables for `dvc plots`: one line a stage, for the proposed network with whole patients left out.

DVC draws a column as a line over a shared first column, so curves are brought onto one grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from osteo_models.evaluation.curves import trace_roc
from osteo_models.evaluation.metrics import Summary
from osteo_models.evaluation.predictions import Predictions
from osteo_models.terms import ImageSet, Stage, job_name

PROPOSED: Final[dict[Stage, tuple[str, ImageSet]]] = {
    "stage-1": ("unimodal", "mri"),
    "stage-2": ("unimodal", "ct"),
    "stage-3": ("unimodal", "combined"),
    "stage-4": ("multimodal", "multimodal"),
}
GRID: Final = np.linspace(0, 1, 101)


def write_plots(artifacts: Path, jobs: Iterable[Predictions], summaries: Mapping[str, Summary]) -> None:
    """Write roc.csv, learning.csv and balanced_accuracy.csv to artifacts/evaluation/plots; a stage not run is empty."""
    folder = artifacts / "evaluation" / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    by_name = {job.name: job for job in jobs}
    roc = pd.DataFrame({"false_positive_rate": GRID.round(2)})
    learning = pd.DataFrame({"epoch": pd.Series(dtype=int)})
    for stage, (architecture, images) in PROPOSED.items():
        name = f"{stage}/{job_name(architecture, images, 'patient')}"
        job = by_name.get(name)
        roc[stage] = np.nan if job is None else _interpolate_roc(job)
        curve = _average_folds(artifacts / "curves" / f"{name}.csv")
        learning = learning.merge(curve.rename(stage).reset_index(), on="epoch", how="outer")
    roc.to_csv(folder / "roc.csv", index=False)
    learning.to_csv(folder / "learning.csv", index=False)
    values = {name: summary.flatten().get("balanced_accuracy") for name, summary in summaries.items()}
    table = pd.DataFrame({"job": list(values), "balanced_accuracy": list(values.values())})
    table.to_csv(folder / "balanced_accuracy.csv", index=False)


def _interpolate_roc(job: Predictions) -> np.ndarray:
    if np.unique(job.target).size < 2:
        return np.full(GRID.size, np.nan)
    curve = trace_roc(job.target, job.score)
    return np.interp(GRID, curve.false_positive_rate, curve.true_positive_rate).round(4)


def _average_folds(path: Path) -> pd.Series:
    """Balanced accuracy on the test fold by epoch, mean of the folds; empty where the job was not run."""
    if not path.is_file():
        return pd.Series(dtype=float, index=pd.Index([], dtype=int, name="epoch"))
    return pd.read_csv(path).groupby("epoch")["test_balanced_accuracy"].mean().round(4)
