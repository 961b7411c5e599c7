"""`osteo predict`: image files to scores per image and per patient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from osteo_models.core.terms import CLASS_NAMES, Modality
from osteo_models.ops.scoring.inputs import NOTICE, Refusal, Request, read_request
from osteo_models.registry.tracking import Tracking
from osteo_models.serving.network import ModelRecord
from osteo_models.serving.score_rows import judge_members


@dataclass(frozen=True)
class ImageScore:
    """One image: score is the probability of osteoporosis, decision the class at the model's threshold.

    Attributes:
        uncertainty: Standard deviation over the members of a fold ensemble; None for a network alone.
        agreement: Share of the members that decide alike.
        unlike: Why it does not look like the training images, where it was scored all the same.
        members: Every member's score.
    """

    file: str
    patient_id: str | None
    modality: Modality | None
    score: float
    decision: str
    uncertainty: float | None
    agreement: float | None
    unlike: str | None
    members: tuple[float, ...]


@dataclass(frozen=True)
class PatientScore:
    """One patient: the mean score of the images; uncertainty and agreement of the members' means."""

    patient_id: str
    images: int
    score: float
    decision: str
    uncertainty: float | None
    agreement: float | None


@dataclass(frozen=True)
class Prediction:
    """What a model says of some files.

    Attributes:
        members: Networks that scored.
        compared: Whether images were compared with the training images; a version may have no reference of them.
        notices: What was not compared.
        refused: The files that were not scored.
    """

    model: str
    version: int
    threshold: float
    synthetic: bool
    members: int
    compared: bool
    notices: tuple[str, ...]
    images: list[ImageScore]
    patients: list[PatientScore]
    refused: list[Refusal]
    notice: str = NOTICE

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def as_lines(self) -> Iterator[str]:
        """For people."""
        trained = ", trained on a synthetic cohort" if self.synthetic else ""
        yield f"{self.model} version {self.version}{trained}; osteoporosis at a score of {self.threshold:g} or more"
        if self.members > 1:
            yield f"mean of {self.members} networks; +- is their standard deviation"
        yield from self.notices
        for image in self.images:
            unlike = f"; unlike the training images: {image.unlike}" if image.unlike else ""
            yield f"  {image.file}: {_show(image)}{unlike}"
        for patient in self.patients:
            yield f"  patient {patient.patient_id}: {_show(patient)} ({patient.images} images)"
        for refused in self.refused:
            yield f"  refused: {refused}"
        yield self.notice


def _show(scored: ImageScore | PatientScore) -> str:
    if scored.uncertainty is None:
        return f"{scored.score:.3f} {scored.decision}"
    return f"{scored.score:.3f} +- {scored.uncertainty:.3f} {scored.decision}, {scored.agreement:.0%} agree"


def predict_path(
    tracking: Tracking,
    path: Path,
    reference: str,
    modality: Modality | None,
    *,
    accept_unlike: bool = False,
    allow_none: bool = False,
) -> Prediction:
    """Score a file, or every file of a folder.

    Args:
        tracking: The store.
        path: DICOM, PNG or JPEG.
        reference: `NAME@alias`, `NAME/3` or `NAME`.
        modality: Of PNG and JPEG files.
        accept_unlike: Score also what does not look like the training images.
        allow_none: Whether it is in order that no file could be scored.

    Raises:
        InputError: No such path or version, or no file could be scored (with the reasons).
        WeightsError: The version is no model of ours or was changed.
    """
    request = read_request(tracking, path, reference, modality, accept_unlike=accept_unlike, allow_none=allow_none)
    return _summarise(request)


def _summarise(request: Request) -> Prediction:
    version, record = request.version, request.loaded.record
    images = [
        ImageScore(
            file=str(each.file),
            patient_id=each.image.patient_id,
            modality=each.image.modality,
            score=each.score,
            decision=CLASS_NAMES[each.decision],
            uncertainty=each.uncertainty,
            agreement=each.agreement,
            unlike=each.unlike,
            members=each.members,
        )
        for each in request.images
    ]
    return Prediction(
        model=version.name,
        version=version.version,
        threshold=record.threshold,
        synthetic=request.synthetic,
        members=record.members,
        compared=bool(request.loaded.likeness or request.loaded.features),
        notices=request.notices,
        images=images,
        patients=[
            _judge_patient(patient_id, [each.members for each in images if each.patient_id == patient_id], record)
            for patient_id in sorted({image.patient_id for image in images if image.patient_id})
        ],
        refused=request.refused,
    )


def _judge_patient(patient_id: str, members: list[tuple[float, ...]], record: ModelRecord) -> PatientScore:
    columns = judge_members(np.mean(members, axis=0)[:, None], record.threshold)
    said = {name: values.tolist()[0] for name, values in columns.items()}
    decision = CLASS_NAMES[said.pop("decision")]
    return PatientScore(patient_id, len(members), decision=decision, **said)
