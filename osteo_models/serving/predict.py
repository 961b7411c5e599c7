"""Scores of image files: per image and per patient, with uncertainty and the out-of-distribution check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from osteo_models.core.errors import InputError
from osteo_models.core.terms import CLASS_NAMES, Modality
from osteo_models.data.prepare import PreparedImage
from osteo_models.serving.inputs import prepare_file
from osteo_models.serving.network import LoadedNetwork, examine_images, judge_members, refuse_ood

NOTICE: Final = "Research software, not a medical device."
NO_REFERENCE: Final = "this version has no reference of its training images: nothing was compared with them"
FAULTS_SHOWN: Final = 5


@dataclass(frozen=True)
class LoadedVersion:
    """A model version, loaded: what is scored with."""

    name: str
    version: int
    synthetic: bool
    network: LoadedNetwork


@dataclass(frozen=True)
class ImageScore:
    """The score of one image file.

    Attributes:
        score: Probability of osteoporosis.
        decision: Class at the model's threshold.
        uncertainty: Standard deviation over the members of a fold ensemble; None for a single network.
        agreement: Share of the members with the same decision; None for a single network.
        ood: Why it is out of distribution, where it was scored all the same.
        members: Score of every member.
    """

    file: str
    patient_id: str | None
    modality: Modality | None
    score: float
    decision: str
    uncertainty: float | None
    agreement: float | None
    ood: str | None
    members: tuple[float, ...]


@dataclass(frozen=True)
class PatientScore:
    """The mean score of a patient's images; uncertainty and agreement of the members' means."""

    patient_id: str
    images: int
    score: float
    decision: str
    uncertainty: float | None
    agreement: float | None


@dataclass(frozen=True)
class Refusal:
    """A file that was not scored."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


@dataclass(frozen=True)
class Prediction:
    """The scores of some files.

    Attributes:
        members: Number of networks.
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
        yield describe_model(self)
        if self.members > 1:
            yield f"mean of {self.members} networks; +- is their standard deviation"
        yield from self.notices
        for image in self.images:
            ood = f"; out of distribution: {image.ood}" if image.ood else ""
            yield f"  {image.file}: {_show(image)}{ood}"
        for patient in self.patients:
            yield f"  patient {patient.patient_id}: {_show(patient)} ({patient.images} images)"
        for refused in self.refused:
            yield f"  refused: {refused}"
        yield self.notice


def describe_model(scored: Any) -> str:
    """The title line of a `Prediction` or `Explanation`."""
    trained = ", trained on a synthetic cohort" if scored.synthetic else ""
    return f"{scored.model} version {scored.version}{trained}; osteoporosis at a score of {scored.threshold:g} or more"


def _show(scored: ImageScore | PatientScore) -> str:
    if scored.uncertainty is None:
        return f"{scored.score:.3f} {scored.decision}"
    return f"{scored.score:.3f} +- {scored.uncertainty:.3f} {scored.decision}, {scored.agreement:.0%} agree"


@dataclass(frozen=True)
class ScoredFiles:
    """Files that were scored, with the images as the network takes them, and files that were not."""

    images: list[ImageScore]
    prepared: list[PreparedImage]
    refused: list[Refusal]


def score_files(
    network: LoadedNetwork, path: Path, modality: Modality | None, *, allow_ood: bool = False, allow_none: bool = False
) -> ScoredFiles:
    """Read, check and score a file, or every file of a folder.

    Args:
        network: What scores them.
        path: DICOM, PNG or JPEG.
        modality: Modality of PNG and JPEG files.
        allow_ood: Score also images that are out of distribution.
        allow_none: Whether it is in order that no file could be scored.

    Raises:
        InputError: No such path, or no file could be scored (with the reasons).
    """
    if not path.exists():
        raise InputError("no such file or folder", where=str(path))
    files = sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]
    prepared: dict[Path, PreparedImage] = {}
    faults: dict[Path, InputError] = {}
    for file in files:
        try:
            prepared[file] = prepare_file(file, modality, network.record)
        except InputError as error:
            faults[file] = error
    scored: list[tuple[ImageScore, PreparedImage]] = []
    for score, (file, image) in zip(_score_images(network, prepared), prepared.items(), strict=True):
        if score.ood and not allow_ood:
            faults[file] = refuse_ood(score.ood, score.file)
        else:
            scored.append((score, image))
    if path in faults and not allow_none:
        raise faults[path]
    refused = [Refusal(str(file), str(faults[file]).removeprefix(f"{file}: ")) for file in sorted(faults)]
    if not scored and not (refused and allow_none):
        found = "; ".join(map(str, refused[:FAULTS_SHOWN])) or "an empty folder"
        raise InputError(f"nothing to score: {found}", where=str(path), allowed="DICOM, PNG, JPEG")
    return ScoredFiles([score for score, _ in scored], [image for _, image in scored], refused)


def _score_images(network: LoadedNetwork, prepared: Mapping[Path, PreparedImage]) -> Iterator[ImageScore]:
    members, ood = examine_images(network, list(prepared.values()))
    columns = judge_members(members, network.record.threshold)
    for row, (file, image) in enumerate(prepared.items()):
        yield ImageScore(
            file=str(file),
            patient_id=image.patient_id,
            modality=image.modality,
            **_judge_row(columns, row),
            ood=ood[row],
            members=tuple(members[:, row].tolist()),
        )


def _judge_row(columns: Mapping[str, Any], row: int) -> dict[str, Any]:
    judged = {name: values.tolist()[row] for name, values in columns.items()}
    return judged | {"decision": CLASS_NAMES[judged["decision"]]}


def predict_path(
    version: LoadedVersion,
    path: Path,
    modality: Modality | None,
    *,
    allow_ood: bool = False,
    allow_none: bool = False,
) -> Prediction:
    """Score a file, or every file of a folder, per image and per patient.

    Args:
        version: What scores them.
        path: DICOM, PNG or JPEG.
        modality: Modality of PNG and JPEG files.
        allow_ood: Score also images that are out of distribution.
        allow_none: Whether it is in order that no file could be scored.

    Raises:
        InputError: No such path, or no file could be scored (with the reasons).
    """
    network = version.network
    scored = score_files(network, path, modality, allow_ood=allow_ood, allow_none=allow_none)
    patients = sorted({image.patient_id for image in scored.images if image.patient_id})
    return Prediction(
        model=version.name,
        version=version.version,
        threshold=network.record.threshold,
        synthetic=version.synthetic,
        members=network.record.members,
        compared=network.ood is not None,
        notices=() if network.ood else (NO_REFERENCE,),
        images=scored.images,
        patients=[_score_patient(patient, scored.images, network.record.threshold) for patient in patients],
        refused=scored.refused,
    )


def _score_patient(patient_id: str, images: Sequence[ImageScore], threshold: float) -> PatientScore:
    members = [image.members for image in images if image.patient_id == patient_id]
    columns = judge_members(np.mean(members, axis=0)[:, None], threshold)
    return PatientScore(patient_id, len(members), **_judge_row(columns, 0))
