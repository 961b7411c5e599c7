"""Statistics from saved predictions: metrics with intervals, tests, tables. No network is run here, and no torch."""

from osteo_models.evaluation.delong import (
    AucInterval,
    DelongResult,
    auc_interval,
    delong_test,
    delong_unpaired,
)
from osteo_models.evaluation.evaluate import Evaluation, evaluate_predictions
from osteo_models.evaluation.intervals import proportion_interval
from osteo_models.evaluation.job_tables import fold_values
from osteo_models.evaluation.metrics import Estimate, Summary, summarize
from osteo_models.evaluation.patient_level import PatientResult, find_extremes, score_patients
from osteo_models.evaluation.predictions import Predictions, read_predictions
from osteo_models.evaluation.roc import RocCurve, choose_threshold, trace_roc

__all__ = [
    "AucInterval",
    "DelongResult",
    "Estimate",
    "Evaluation",
    "PatientResult",
    "Predictions",
    "RocCurve",
    "Summary",
    "auc_interval",
    "choose_threshold",
    "delong_test",
    "delong_unpaired",
    "evaluate_predictions",
    "find_extremes",
    "fold_values",
    "proportion_interval",
    "read_predictions",
    "score_patients",
    "summarize",
    "trace_roc",
]
