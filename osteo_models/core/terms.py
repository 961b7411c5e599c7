"""The words of the field, once: classes, modalities, image sets, protocols, and how stages and jobs are named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Modality = str  # a key of `MODALITIES`
ImageSet = str  # one of `IMAGE_SETS`
Protocol = Literal["image", "patient"]
Stage = str  # `stage-` and a number: a key of `stages` in params.yaml
Validation = Literal["folds", "holdout", "patient_test"]
Sex = Literal["F", "M"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]

PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)
VALIDATIONS: Final[tuple[Validation, ...]] = get_args(Validation)
STAGE_PATTERN: Final = r"^stage-[1-9][0-9]*$"


@dataclass(frozen=True)
class ModalityEntry:
    """What the project knows of a modality, whose images are sagittal views.

    Attributes:
        title: Name in texts.
        dicom_codes: Values of Modality (0008,0060), PS3.3 C.7.3.1.1.1.
        storage: UID of the SOP class that an import writes, PS3.4 B.5.
        intensity: How pixels become grey values: `hounsfield`, a window in HU, which needs the rescale slope and
            intercept of the file; `relative`, percentiles of each image.
    """

    title: str
    dicom_codes: tuple[str, ...]
    storage: str
    intensity: Literal["hounsfield", "relative"]


# A new modality is a row here, and its entries in params.yaml (`prepare.intensity`, `splits`, `stages`).
MODALITIES: Final[Mapping[Modality, ModalityEntry]] = {
    "mri": ModalityEntry("MRI", ("MR",), "1.2.840.10008.5.1.4.1.1.4", "relative"),
    "ct": ModalityEntry("CT", ("CT",), "1.2.840.10008.5.1.4.1.1.2", "hounsfield"),
}
DICOM_MODALITY: Final = {code: name for name, entry in MODALITIES.items() for code in entry.dicom_codes}
SINGLE_INPUT: Final[tuple[ImageSet, ...]] = (*MODALITIES, "combined")  # one image, one score
IMAGE_SETS: Final[tuple[ImageSet, ...]] = (*SINGLE_INPUT, "multimodal")

CONTROL: Final = 0
OSTEOPOROSIS: Final = 1  # T-score < -1 at L1-L4, as in the paper: osteopenia is in it
CLASS_NAMES: Final[tuple[str, str]] = ("control", "osteoporosis")

Finding = Literal[
    "severe_scoliosis",
    "lumbar_deformity",
    "spondyloarthritis",
    "inflammatory_disease",
    "tumoral_lesion",
    "stabilization_surgery",
    "secondary_osteoporosis",
]
FINDINGS: Final[tuple[Finding, ...]] = get_args(Finding)

# What words of DICOM headers can mean, such as those that a site adds in `data.words`.
WordMeaning = Literal[
    "lumbar", "spine", "trunk", "other_spine", "other", "localizer", "other_weighting", "t1", "sharp_kernel"
]

# The six benchmark networks of the paper.
PRETRAINED: Final[tuple[str, ...]] = (
    "efficientnet_b0",
    "resnet50",
    "inception_v3",
    "inception_resnet_v2",
    "efficientnetv2_s",
    "convnext_tiny",
)

LEVELS: Final[tuple[str, ...]] = ("l1", "l2", "l3", "l4")

IMAGE_ROWS: Final = 80
IMAGE_COLUMNS: Final = 60


def decide(score: npt.ArrayLike, threshold: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether each score is decided as osteoporosis: at the threshold or above it, compared in float64.

    A float32 score compared with a Python number would first round the threshold to float32.
    """
    import numpy as np  # not at the top: `osteo --help` reads the terms, and answers at once

    return np.asarray(score, dtype=np.float64) >= np.asarray(threshold, dtype=np.float64)


def is_hounsfield(modality: Modality) -> bool:
    """Whether pixels are in Hounsfield units."""
    return MODALITIES[modality].intensity == "hounsfield"


def modalities_of(images: ImageSet) -> tuple[Modality, ...]:
    """The modalities that an image set draws from: `combined` and `multimodal` draw from all."""
    return (images,) if images in MODALITIES else tuple(MODALITIES)


def proposed_network(images: ImageSet) -> str:
    """The architecture that the paper proposes for an image set."""
    return "multimodal" if images == "multimodal" else "unimodal"


def stage_number(stage: Stage) -> str:
    """The number in a stage's name, as text."""
    return stage.removeprefix("stage-")


def sort_stages(stages: Iterable[Stage]) -> list[Stage]:
    """Stages by number, each once."""
    return sorted(set(stages), key=lambda stage: int(stage_number(stage)))


def metric_prefix(stage: Stage, protocol: Protocol) -> str:
    """The head of a metric's name in MLflow: the stage with an underscore, a dot, the protocol."""
    return f"stage_{stage_number(stage)}.{protocol}"


def find_stages(metrics: Iterable[str]) -> list[Stage]:
    """The stages that names of metrics begin with, by number."""
    found = (re.match(r"stage_([1-9][0-9]*)\.", name) for name in metrics)
    return sort_stages(f"stage-{match[1]}" for match in found if match)


def model_name(architecture: str, images: ImageSet) -> str:
    """The registered model's name, such as `osteo-unimodal-mri`; the multimodal network has no suffix."""
    return f"osteo-{architecture}" if images == "multimodal" else f"osteo-{architecture}-{images}"


def job_name(architecture: str, images: ImageSet, protocol: Protocol) -> str:
    """The run name of a job and the stem of its predictions file."""
    return f"{architecture}-{images}-{protocol}"
