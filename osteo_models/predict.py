"""`osteo predict`: image files to scores per image and per patient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from osteo_models.registry.tracking import Tracking
from osteo_models.request import NOTICE, Request, read_request
from osteo_models.terms import CLASS_NAMES, Modality


@dataclass(frozen=True)
class ImageScore:
    """One image: score is the probability of osteoporosis, decision the class at the model's threshold."""

    file: str
    patient_id: str | None
    modality: Modality | None
    score: float
    decision: str


@dataclass(frozen=True)
class PatientScore:
    """One patient: the mean score of the images."""

    patient_id: str
    images: int
    score: float
    decision: str


@dataclass(frozen=True)
class Prediction:
    """What a model says of some files; `refused` are the files that could not be scored, with the reason."""

    model: str
    version: int
    threshold: float
    synthetic: bool
    images: list[ImageScore]
    patients: list[PatientScore]
    refused: list[str]
    notice: str = NOTICE

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def as_lines(self) -> Iterator[str]:
        """For people."""
        trained = ", trained on a synthetic cohort" if self.synthetic else ""
        yield f"{self.model} version {self.version}{trained}; osteoporosis at a score of {self.threshold:g} or more"
        for image in self.images:
            yield f"  {image.file}: {image.score:.3f} {image.decision}"
        for patient in self.patients:
            yield f"  patient {patient.patient_id}: {patient.score:.3f} {patient.decision} ({patient.images} images)"
        for refused in self.refused:
            yield f"  refused: {refused}"
        yield self.notice


def predict_path(tracking: Tracking, path: Path, reference: str, modality: Modality | None) -> Prediction:
    """Score a file, or every file of a folder.

    Args:
        tracking: The store.
        path: DICOM, PNG or JPEG.
        reference: `NAME@alias`, `NAME/3` or `NAME`.
        modality: Of PNG and JPEG files.

    Raises:
        InputError: No such path or version, or no file could be scored (with the reasons).
    """
    return _summarise(read_request(tracking, path, reference, modality))


def _summarise(request: Request) -> Prediction:
    threshold = request.loaded.record.threshold
    images = [
        ImageScore(str(each.file), each.image.patient_id, each.image.modality, each.score, CLASS_NAMES[each.decision])
        for each in request.images
    ]
    patients: list[PatientScore] = []
    for patient_id in sorted({image.patient_id for image in images if image.patient_id}):
        scores = [image.score for image in images if image.patient_id == patient_id]
        mean = sum(scores) / len(scores)
        patients.append(PatientScore(patient_id, len(scores), mean, CLASS_NAMES[int(mean >= threshold)]))
    version = request.version
    return Prediction(version.name, version.version, threshold, request.synthetic, images, patients, request.refused)
