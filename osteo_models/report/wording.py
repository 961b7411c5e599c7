"""Names and number formats of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

from osteo_models.core.stage_table import StageRow, StageTable
from osteo_models.core.terms import MODALITIES, VALIDATIONS, Stage, Validation, sort_stages, stage_number

ARCHITECTURES: Final[dict[str, str]] = {
    "unimodal": "Unimodal",
    "multimodal": "Multimodal",
    "traditional_cnn": "Traditional CNN",
    "efficientnet_b0": "EfficientNet B0",
    "resnet50": "ResNet50",
    "inception_v3": "InceptionV3",
    "inception_resnet_v2": "InceptionResNetV2",
    "efficientnetv2_s": "EfficientNetV2-S",
    "convnext_tiny": "ConvNeXt Tiny",
    "efficientnet_lite0": "EfficientNet-Lite0",
}
PROPOSED: Final = ("unimodal", "multimodal")
NUMBERS: Final = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
TITLES: Final = {name: entry.title for name, entry in MODALITIES.items()}
ALL_TITLES: Final = " and ".join([", ".join([*TITLES.values()][:-1]), [*TITLES.values()][-1]])
IMAGES: Final[dict[str, str]] = {
    **TITLES,
    "combined": f"{ALL_TITLES} shuffled together",
    "multimodal": f"{ALL_TITLES} as {NUMBERS[len(TITLES) - 2]} inputs",
}
TESTS: Final[dict[Validation, str]] = {"holdout": "Hold-out of close ages", "patient_test": "Patient-based test"}
METRICS: Final[dict[str, str]] = {
    "balanced_accuracy": "Balanced accuracy, %",
    "accuracy": "Accuracy, %",
    "sensitivity": "Sensitivity, %",
    "specificity": "Specificity, %",
    "roc_auc": "ROC AUC of scores",
    "balanced_accuracy_as_auc": "ROC AUC of decisions",
    "brier": "Brier score",
}
AREAS: Final = ("roc_auc", "balanced_accuracy_as_auc", "brier", "calibration_slope", "calibration_intercept")
UNDEFINED: Final = "undefined"
TOO_FEW: Final = "too few patients"
# After "95 %, "; the coverage is that of docs/statistics.md.
METHOD: Final = (
    "Clopper-Pearson's at the effective number of patients, because slices of one patient are not independent. In "
    "simulations at least 93 % of them hold the true value, from five patients per class on; with fewer there is none."
)
PREDICTORS: Final[dict[str, str]] = {
    "age": "Age alone",
    "sex": "Sex alone",
    "header": "Image header alone",
    "scanner": "Scanner alone",
}
KINDS: Final[dict[Validation, str]] = {
    "folds": "folds",
    "holdout": "hold-out",
    "patient_test": "patient-based test",
}


def title_stage(row: StageRow) -> str:
    """The heading of a stage: its own, or one made from its validation and image sets."""
    if row.title:
        return row.title
    images = ", ".join(IMAGES[name] for name in row.images)
    if row.validation == "folds":
        return f"{images}, {NUMBERS[row.folds - 2] if row.folds <= len(NUMBERS) + 1 else row.folds} folds"
    return TESTS[row.validation] + (f", {images}" if len(row.images) == 1 else "")


def number_stages(stages: Sequence[Stage]) -> str:
    """Their numbers, such as "1–4", "5 and 6", "7"."""
    numbers = [int(stage_number(stage)) for stage in sort_stages(stages)]
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}–{numbers[-1]}"
    return " and ".join(part for part in (", ".join(map(str, numbers[:-1])), str(numbers[-1])) if part)


def name_stages(stages: Sequence[Stage]) -> str:
    """Stages in words, such as "stages 1–4", "stage 5"; "no stage" without any."""
    return f"stage{'s' if len(stages) > 1 else ''} {number_stages(stages)}" if stages else "no stage"


def name_split(split: str, stages: StageTable) -> str:
    """A split of splits.csv, with the stages that test on it."""
    names = {"fold_patient": "folds of whole patients", "fold_image": "folds of single images"}
    names |= {
        validation: f"{KINDS[validation]} ({name_stages(stages.select(validation))})"
        for validation in VALIDATIONS
        if validation != "folds"
    }
    return names.get(split, split)


def name_architecture(architecture: str) -> str:
    """The printed name of an architecture; an unknown one is returned as it is."""
    return ARCHITECTURES.get(architecture, architecture)


def name_network(architecture: str, images: str) -> str:
    """Network and image set, such as "Unimodal MRI"."""
    short = {**TITLES, "combined": "combined"}.get(images)
    name = name_architecture(architecture)
    return f"{name} {short}" if short else name


def name_images(images: str) -> str:
    """The name of an image set."""
    return IMAGES.get(images, images)


def name_job(job: str) -> str:
    """The name of a network given as "architecture-images"."""
    architecture, _, images = job.rpartition("-")
    return name_network(architecture, images) if architecture else job


def name_predictor(predictor: str) -> str:
    """The name of a shortcut or of an image model."""
    return PREDICTORS.get(predictor) or name_architecture(predictor)


def text(value: object) -> str:
    """A cell of words; an empty one reads as NaN."""
    return value if isinstance(value, str) else ""


def join(parts: Sequence[str], separator: str = ", ") -> str:
    """The parts that are not empty."""
    return separator.join(part for part in parts if part)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a cell of a table holds a finite number: an empty one reads as NaN."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def write_metric(metric: str, value: object, digits: int = 1) -> str:
    """A proportion in per cent, an area or Brier score as it is."""
    if not is_number(value):
        return UNDEFINED
    return f"{value:.3f}".replace("-", "−") if metric in AREAS else f"{100 * value:.{digits}f}"


def write_interval(metric: str, low: object, high: object) -> str:
    """The ends of an interval, empty where there is none."""
    if not is_number(low) or not is_number(high):
        return ""
    return f"{write_metric(metric, low)}–{write_metric(metric, high)}"


def write_row_interval(metric: str, row: Mapping[str, Any]) -> str:
    """The interval of a row, or "too few patients"; empty for none."""
    few = row.get("interval") == TOO_FEW
    return TOO_FEW if few else write_interval(metric, row.get("ci_low"), row.get("ci_high"))


def write_thresholds(row: Mapping[str, Any]) -> str:
    """The threshold or thresholds of a row, such as "at 0.41 to 0.62"; empty for none."""
    ends = [row.get("threshold_low"), row.get("threshold_high")]
    return "at " + " to ".join(dict.fromkeys(f"{end:.2f}" for end in ends)) if all(map(is_number, ends)) else ""


def write_points(value: object) -> str:
    """A difference of proportions in percentage points."""
    if not is_number(value):
        return UNDEFINED
    return f"{100 * value:+.1f}".replace("-", "−")


def write_signed(value: object) -> str:
    """A difference of areas, or z, with its sign."""
    return f"{value:+.3f}".replace("-", "−") if is_number(value) else UNDEFINED


def write_difference(metric: str, value: object) -> str:
    """A difference of a metric: of AUCs or Brier scores as it is, otherwise in percentage points."""
    return write_signed(value) if metric in AREAS else write_points(value)


def write_difference_interval(metric: str, low: object, high: object) -> str:
    """The ends of an interval of a difference; empty when it is undefined."""
    has_interval = is_number(low) and is_number(high)
    return f"{write_difference(metric, low)} to {write_difference(metric, high)}" if has_interval else ""


def write_number(value: float, digits: int = 3) -> str:
    """A plain number with `digits` decimals."""
    return f"{value:,.{digits}f}".replace("-", "−")


def write_p(value: object) -> str:
    """A p value; small ones as a bound."""
    if not is_number(value):
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def write_count(value: object) -> str:
    """A whole number with thousands set apart."""
    return f"{int(value):,}" if is_number(value) else "–"
