"""The ROC curve as points, thresholds chosen on it, and the structural components of its area (DeLong)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]
from sklearn.metrics import roc_curve  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from osteo_models.core.errors import InputError
from osteo_models.core.stage_table import StageTable
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.scored_cases import FloatArray, IntArray, average_patients, check_cases, read_columns

Level = Literal["image", "patient"]
DEFAULT_THRESHOLD: Final = 0.5  # ties are broken by the distance to it


@dataclass(frozen=True)
class RocCurve:
    """Points from (0, 0) to (1, 1); at the threshold of infinity no case is positive.

    Shapes:
        false_positive_rate, true_positive_rate, threshold: (T,), corner points only.
    """

    false_positive_rate: FloatArray
    true_positive_rate: FloatArray
    threshold: FloatArray


def trace_roc(target: ArrayLike, score: ArrayLike) -> RocCurve:
    """The ROC curve of scores, without points on a straight line between their neighbours.

    Raises:
        InputError: As in `summarize`, and where a class is missing: there is no curve then.
    """
    cases = check_cases(target, score)
    if not cases.n_positive or not cases.n_negative:
        raise InputError("one class is missing: there is no ROC curve", where="`target`", allowed="both classes")
    curve = cast(Any, roc_curve)(cases.target, cases.score, drop_intermediate=False)
    false_positives = (curve[0] * cases.n_negative).round()
    true_positives = (curve[1] * cases.n_positive).round()
    across, up = np.diff(false_positives), np.diff(true_positives)
    corner = np.ones(true_positives.size, dtype=np.bool_)
    corner[1:-1] = up[:-1] * across[1:] != across[:-1] * up[1:]
    return RocCurve(*(column[corner].astype(np.float64) for column in curve))


@dataclass(frozen=True)
class Placements:
    """Share of negatives below each positive (m,), and of positives above each negative (n,), ties as a half."""

    positives: FloatArray
    negatives: FloatArray

    @property
    def auc(self) -> float:
        """Area under the ROC curve."""
        return float(self.positives.mean())

    @property
    def variance(self) -> float:
        """DeLong's variance of the area."""
        return variance_of_mean(self.positives) + variance_of_mean(self.negatives)


def find_placements(target: IntArray, score: FloatArray) -> Placements:
    """The structural components of the area, from midranks: exact on ties."""
    rank = cast(Any, stats).rankdata
    positive = target == 1
    ranks = cast(FloatArray, rank(score))
    m, n = int(positive.sum()), int((~positive).sum())
    above = ranks[positive] - cast(FloatArray, rank(score[positive]))
    below = ranks[~positive] - cast(FloatArray, rank(score[~positive]))
    return Placements(above / n, (m - below) / m)


def variance_of_mean(component: FloatArray) -> float:
    """Variance of the mean of independent values."""
    if float(np.ptp(component)) == 0:
        return 0.0
    return float(component.var(ddof=1)) / component.size


def read_scores(
    target: ArrayLike,
    scores: dict[str, ArrayLike],
    patient_id: Iterable[Any] | None = None,
    level: Level = "image",
) -> tuple[IntArray, list[FloatArray], bool]:
    """Checked targets and scores at a level, and whether several cases are of one patient.

    Raises:
        InputError: See `delong_test`.
    """
    faults: list[str] = []
    columns = read_columns(target, scores, patient_id, faults)
    patients = columns.patient
    if level not in get_args(Level):
        faults.append(f"`level` is {level!r}")
    elif level == "patient" and patients is None:
        faults.append("`level` is 'patient' and no `patient_id` is given")
    targets, listed = columns.target, list(columns.scores.values())
    if level == "patient" and patients is not None and not faults:
        try:
            averaged = average_patients(targets, listed, patients)
            targets, listed = averaged.target, averaged.scores
        except InputError as error:
            faults.append(error.found)
    if not faults:
        faults += [
            f"`{name}` is {column[0]:g} everywhere: its area under the curve is undefined"
            for name, column in zip(columns.scores, listed, strict=True)
            if float(np.ptp(column)) == 0
        ]
        counts = np.bincount(targets, minlength=2)
        faults += [
            f"class {label} has {counts[label]} case(s): no variance without two"
            for label in (0, 1)
            if counts[label] < 2
        ]
    if faults:
        raise InputError(
            "; ".join(faults),
            allowed="finite scores that differ, targets 0 or 1, two cases of each class, equal lengths, "
            "level image or patient",
        )
    clustered = level == "image" and patients is not None and np.unique(patients).size < patients.size
    return targets, listed, clustered


@dataclass(frozen=True)
class Chosen:
    """A threshold for each image of a job.

    Args:
        source: The predictions that the thresholds were chosen on; empty when there are none.
        note: Why there is no threshold; empty when there is one.

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
    return float(equal[np.argmin(np.abs(equal - DEFAULT_THRESHOLD))])


def choose_thresholds(job: Predictions, jobs: Sequence[Predictions], stages: StageTable) -> Chosen:
    """A threshold for each image of a job from scores of other patients.

    In cross-validation fold k takes it from the other folds of the same job, without the patients of fold k (with the
    image protocol some of their slices are there). The test sets take it from the same network's cross-validation by
    patients, without the patients tested on.
    """
    undefined = np.full(job.score.size, np.nan)
    folded = job.validation == "folds"
    stage = job.stage if folded else stages.find_folds(job.images)
    if stage is None:
        return Chosen(undefined, "", f"no stage has folds of {job.images} images")
    name = f"{stage}/{job.job}"
    other = next((one for one in jobs if one.name == name), None)
    if other is None:
        return Chosen(undefined, "", f"{name} was not run")
    threshold = undefined.copy()
    for fold in np.unique(job.fold):
        tested = job.fold == fold
        rows = ~np.isin(other.patient_id, job.patient_id[tested])
        if folded:
            rows &= other.fold != fold
        value, note = _choose(other, rows)
        if value is None:
            return Chosen(undefined, other.source, f"fold {fold}: {note}" if folded else note)
        threshold[tested] = value
    return Chosen(threshold, other.source, "")


def _choose(job: Predictions, rows: np.ndarray) -> tuple[float | None, str]:
    if not rows.any():
        return None, "no other patients' scores"
    try:
        value = choose_threshold(job.target[rows], job.score[rows])
    except InputError as error:
        return None, error.found
    return value, "" if value is not None else "no threshold is better than chance"
