"""The tables of artifacts/evaluation and their columns."""

from __future__ import annotations

from typing import Final

from osteo_models.evaluation.patient_sums import METRIC_NAMES
from osteo_models.evaluation.rows import COUNT_COLUMNS, JOB_COLUMNS

INTERVAL: Final = ("ci_low", "ci_high")
WALD: Final = ("wald_low", "wald_high")
WILSON: Final = ("wilson_low", "wilson_high")
SOURCES: Final = ("source_first", "source_second")
PROPORTIONS: Final = ("accuracy", "sensitivity", "specificity")


def _stage_table() -> tuple[str, ...]:
    """Tables 3 to 7: ours and the paper's figures in one row."""
    proportions = tuple(
        column
        for name in PROPORTIONS
        for column in (
            name,
            *(f"{name}_{end}" for end in (*INTERVAL, *WALD, *WILSON)),
            *(f"paper_{name}", f"paper_{name}_low", f"paper_{name}_high"),
        )
    )
    balanced = "balanced_accuracy"
    return (
        *(*JOB_COLUMNS, "kind", *proportions),
        *(balanced, f"{balanced}_ci_low", f"{balanced}_ci_high", f"paper_{balanced}"),
        *("roc_auc", "roc_auc_ci_low", "roc_auc_ci_high", "roc_auc_delong_low", "roc_auc_delong_high"),
        *("roc_auc_hard", "paper_roc_auc_hard", "brier", "calibration_slope", "calibration_intercept"),
        *("n", "n_patients", "paper_n", "note", "source"),
    )


METRIC_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "summary": (
        *(*JOB_COLUMNS, "subset", "level", "metric", "value", *INTERVAL, "interval", *WALD, *WILSON),
        *("delong_low", "delong_high", "fold_mean", "fold_sd", "threshold", *COUNT_COLUMNS, "source"),
    ),
    "chosen": (
        *(*JOB_COLUMNS, "metric", "value", *INTERVAL, "interval", *WALD, *WILSON, "default_value"),
        *("threshold_low", "threshold_high", *COUNT_COLUMNS, "note", "source", "source_threshold"),
    ),
    "confusion": (
        *(*JOB_COLUMNS, "level", "kind", "threshold_low", "threshold_high"),
        *("true_positives", "false_negatives", "true_negatives", "false_positives", "n", "n_patients", "source"),
    ),
    "folds": (*JOB_COLUMNS, "fold", "n", "n_patients", *METRIC_NAMES, "source"),
    "roc": (*JOB_COLUMNS, "false_positive_rate", "true_positive_rate", "threshold", "source"),
    "calibration": (*JOB_COLUMNS, "bin", "mean_score", "observed", "low", "high", "n", "n_patients", "source"),
    "patients": (
        *(*JOB_COLUMNS, "modality", "patient_id", "target", "score", "images_n", "correct", "accuracy"),
        *(*WILSON, "source"),
    ),
    "delong": (
        *("stage", "protocol", "subset", "level", "first", "second", "auc_first", "auc_second", "difference"),
        *(*INTERVAL, "z", "p_value", "n", "n_patients", "note", *SOURCES),
    ),
    "delong_unpaired": (
        *("stage_first", "stage_second", "protocol", "level", "first", "second", "auc_first", "auc_second"),
        *("difference", *INTERVAL, "z", "df", "p_value", "n_first", "n_second"),
        *("n_patients_first", "n_patients_second", "note", *SOURCES),
    ),
    "image_vs_patient": (
        *("stage", "architecture", "images", "metric", "image", "patient", "difference", *INTERVAL),
        *("n_image", "n_patient", "n_patients", "source_image", "source_patient"),
    ),
}

PAPER_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "table1": ("group", "variable", "part", "skewness", "n", "n_patients", "paper_skewness", "note", "source"),
    "table2": (
        *("stage", "images", "validation", "n", "n_patients", "n_pairs", "architectures", "protocols"),
        *("paper_n", "paper_pairs", "note", "source"),
    ),
    **{f"table{number}": _stage_table() for number in range(3, 8)},
    "table8": (
        *(*JOB_COLUMNS, "mean", "sd", "n_correct", "n", "n_patients"),
        *("paper_mean", "paper_sd", "source"),
    ),
    "table9": (
        *("subset", "level", "auc_multimodal", "auc_unimodal", "difference", *INTERVAL, "z", "p_value"),
        *("n", "n_patients", "paper_z", "paper_p_value", "paper_ci_low", "paper_ci_high", "note", *SOURCES),
    ),
    "table10": (
        *(*JOB_COLUMNS, "group", "which", "patient_id", "accuracy", *WALD, *WILSON, "n"),
        *("paper_accuracy", "paper_low", "paper_high", "source"),
    ),
    "table10_totals": (
        *(*JOB_COLUMNS, "metric", "value", *INTERVAL, *WALD, *WILSON, "n", "n_patients"),
        *("paper_value", "paper_low", "paper_high", "source"),
    ),
    "ledger": (
        *("table", "stage", "images", "architecture", "n", "n_positive", "n_negative", "accuracy", "sensitivity"),
        *("specificity", "balanced_accuracy", "roc_auc_hard", "possible", "sensitivity_k", "specificity_k"),
        *("accuracy_k", "fits_n_positive", "fits_n_negative", "wald_agrees", "auc_is_balanced", "note"),
    ),
    "ledger_sizes": (
        *("table", "images", "stated_positive", "stated_negative", "rows", "possible_rows"),
        *("best_positive", "best_negative", "best_rows", "note"),
    ),
}

AUDIT_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "duplicates": ("split", "kind", "threshold", "pairs", "pairs_other_patient", "images", "n", "share", "source"),
    "duplicate_pairs": (
        *("image_id_a", "image_id_b", "patient_a", "patient_b", "modality", "correlation", "exact", "splits"),
        "source",
    ),
    "shared": ("split", "unit", "units", "units_total", "images", "n", "share", "note", "source"),
    "shortcuts": (
        *("predictor", "kind", "images", "validation", "metric", "value", *INTERVAL, "interval", *COUNT_COLUMNS),
        *("columns", "note", "source"),
    ),
    "beyond": (
        *(*JOB_COLUMNS, "predictor", "metric", "model", "shortcut", "difference", *INTERVAL, "n", "n_patients"),
        *("note", "source", "source_shortcut"),
    ),
    "groups": (
        *(*JOB_COLUMNS, "by", "group", "metric", "value", *INTERVAL, "interval", *COUNT_COLUMNS, "note", "source"),
    ),
    "modalities": (*JOB_COLUMNS, "use", "metric", "value", *INTERVAL, "n", "n_patients", "note", "source"),
}

COLUMNS: Final[dict[str, tuple[str, ...]]] = {**METRIC_COLUMNS, **PAPER_COLUMNS, **AUDIT_COLUMNS}
