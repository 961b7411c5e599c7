"""`osteo predict`: image files to scores per image and per patient."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from osteo_models.data.dicom import is_picture
from osteo_models.errors import InputError
from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.network import LoadedNetwork
from osteo_models.registry.serving import score_table
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import get_version, load_network
from osteo_models.terms import CLASS_NAMES, Modality

NOTICE = "Research software, not a medical device."


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
    if not path.exists():
        raise InputError("no such file or folder", where=str(path))
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    version = get_version(tracking, reference)
    loaded = load_network(tracking, version)
    images: list[ImageScore] = []
    refused: list[str] = []
    for file in files:
        try:
            images.append(_score_file(loaded, file, modality))
        except InputError as error:
            if file == path:
                raise
            refused.append(str(error))
    if not images:
        found = "; ".join(refused[:5]) if refused else "an empty folder"
        raise InputError(f"nothing to score: {found}", where=str(path), allowed="DICOM, PNG, JPEG")
    return _summarise(version, loaded, images, refused)


def _score_file(loaded: LoadedNetwork, file: Path, modality: Modality | None) -> ImageScore:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(file)) from None
    if is_picture(data) and modality is None and loaded.record.images == "multimodal":
        found = "a picture does not say whether it is MRI or CT"
        raise InputError(found, where=str(file), allowed="mri, ct", remedy="say it with --modality")
    table = pd.DataFrame(
        {"image": [base64.b64encode(data).decode()], "modality": [modality if is_picture(data) else None]}
    )
    try:
        row = score_table(loaded, table).iloc[0]
    except InputError as error:
        # A table of one row: which row it was says nothing, which file it was does.
        raise InputError(error.found.removeprefix("1 of 1 rows: row 0: "), where=str(file)) from None
    return ImageScore(str(file), row["patient_id"], row["modality"], float(row["score"]), CLASS_NAMES[row["decision"]])


def _summarise(version: VersionInfo, loaded: LoadedNetwork, images: list[ImageScore], refused: list[str]) -> Prediction:
    threshold = loaded.record.threshold
    patients: list[PatientScore] = []
    for patient_id in sorted({image.patient_id for image in images if image.patient_id}):
        scores = [image.score for image in images if image.patient_id == patient_id]
        mean = sum(scores) / len(scores)
        patients.append(PatientScore(patient_id, len(scores), mean, CLASS_NAMES[int(mean >= threshold)]))
    synthetic = version.tags.get("synthetic") == "true"
    return Prediction(version.name, version.version, threshold, synthetic, images, patients, refused)
