"""A threshold chosen on training folds: for each fold from the others' scores, never from a patient it is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from osteo_models.core.errors import InputError
from osteo_models.core.stage_table import StageTable
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.roc import trace_roc
from osteo_models.evaluation.scored_cases import FloatArray

DEFAULT: Final = 0.5


@dataclass(frozen=True)
class Chosen:
    """A threshold for each image of a job.

    Args:
        source: The predictions that the thresholds were chosen on; empty where there are none.
        note: Why there is no threshold; empty where there is one.

    Shapes:
        threshold: (N,), NaN throughout where none could be chosen for some fold.
    """

    threshold: FloatArray
    source: str
    note: str

    @property
    def exists(self) -> bool:
        return not self.note


def choose_threshold(target: ArrayLike, score: ArrayLike) -> float | None:
    """The score with the largest Youden index; of equals the one nearest to 0.5.

    Returns:
        The threshold, or None where no threshold is better than chance.

    Raises:
        InputError: As in `trace_roc`.

    Source:
        Youden, Cancer 1950;3:32.
    """
    curve = trace_roc(target, score)
    index = curve.true_positive_rate - curve.false_positive_rate
    best = float(index.max())
    if best <= 1e-12:
        return None
    equal = curve.threshold[index >= best - 1e-12]
    return float(equal[np.argmin(np.abs(equal - DEFAULT))])


def choose_thresholds(job: Predictions, jobs: Sequence[Predictions], stages: StageTable) -> Chosen:
    """A threshold for each image of a job from scores of other patients.

    In cross-validation fold k takes it from the other folds of the same job, without the patients of fold k (with the
    image protocol some of their slices are there). The test sets take it from the same network's cross-validation by
    patients, without the patients tested on.
    """
    threshold = np.full(job.score.size, np.nan)
    folded = job.validation == "folds"
    stage = job.stage if folded else stages.find_folds(job.images)
    if stage is None:
        return Chosen(threshold, "", f"no stage has folds of {job.images} images")
    wanted = f"{stage}/{job.job}"
    chosen_on = next((one for one in jobs if one.name == wanted), None)
    if chosen_on is None:
        return Chosen(threshold, "", f"{wanted} was not run")
    found = np.full(job.score.size, np.nan)
    for fold in np.unique(job.fold):
        tested = job.fold == fold
        others = ~np.isin(chosen_on.patient_id, job.patient_id[tested])
        if folded:
            others &= chosen_on.fold != fold
        value, note = _choose(chosen_on, others)
        if value is None:
            return Chosen(threshold, chosen_on.source, f"fold {fold}: {note}" if folded else note)
        found[tested] = value
    return Chosen(found, chosen_on.source, "")


def _choose(job: Predictions, rows: np.ndarray) -> tuple[float | None, str]:
    if not rows.any():
        return None, "no other patients' scores"
    try:
        value = choose_threshold(job.target[rows], job.score[rows])
    except InputError as error:
        return None, error.found
    return value, "" if value is not None else "no threshold is better than chance"
