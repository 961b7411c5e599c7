"""`osteo predict`: image files to scores per image and per patient."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from osteo_models.data.dicom import is_picture
from osteo_models.errors import InputError
from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.network import LoadedNetwork
from osteo_models.registry.scoring import judge_members, score_table
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import get_version, load_network
from osteo_models.terms import CLASS_NAMES, Modality

NOTICE = "Research software, not a medical device."


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
class Refusal:
    """A file that could not be scored, or was not."""

    file: str
    reason: str


@dataclass(frozen=True)
class Prediction:
    """What a model says of some files.

    Attributes:
        members: Networks that scored.
        compared: Whether images were compared with the training images; a version may have no reference of them.
        refused: The files that were not scored.
    """

    model: str
    version: int
    threshold: float
    synthetic: bool
    members: int
    compared: bool
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
        if not self.compared:
            yield "this version has no reference of its training images: nothing was compared with them"
        for image in self.images:
            unlike = f"; unlike the training images: {image.unlike}" if image.unlike else ""
            yield f"  {image.file}: {_show(image)}{unlike}"
        for patient in self.patients:
            yield f"  patient {patient.patient_id}: {_show(patient)} ({patient.images} images)"
        for refused in self.refused:
            yield f"  refused: {refused.file}: {refused.reason}"
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
    if not path.exists():
        raise InputError("no such file or folder", where=str(path))
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    version = get_version(tracking, reference)
    loaded = load_network(tracking, version)
    images: list[ImageScore] = []
    refused: list[Refusal] = []
    for file in files:
        try:
            images.append(_score_file(loaded, file, modality, accept_unlike=accept_unlike))
        except InputError as error:
            if file == path and not allow_none:
                raise
            refused.append(Refusal(str(file), str(error).removeprefix(f"{file}: ")))
    if not images and not (refused and allow_none):
        found = "; ".join(f"{each.file}: {each.reason}" for each in refused[:5]) or "an empty folder"
        raise InputError(f"nothing to score: {found}", where=str(path), allowed="DICOM, PNG, JPEG")
    return _summarise(version, loaded, images, refused)


def _score_file(loaded: LoadedNetwork, file: Path, modality: Modality | None, *, accept_unlike: bool) -> ImageScore:
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
        row = score_table(loaded, table, accept_unlike=accept_unlike).iloc[0]
    except InputError as error:
        # A table of one row: which row it was says nothing, which file it was does.
        raise InputError(error.found.removeprefix("1 of 1 rows: row 0: "), where=str(file)) from None
    return ImageScore(
        file=str(file),
        patient_id=row["patient_id"],
        modality=row["modality"],
        score=float(row["score"]),
        decision=CLASS_NAMES[row["decision"]],
        uncertainty=row["uncertainty"],
        agreement=row["agreement"],
        unlike=row["unlike"],
        members=tuple(row["members"]),
    )


def _summarise(
    version: VersionInfo, loaded: LoadedNetwork, images: list[ImageScore], refused: list[Refusal]
) -> Prediction:
    threshold = loaded.record.threshold
    patients: list[PatientScore] = []
    for patient_id in sorted({image.patient_id for image in images if image.patient_id}):
        members = [image.members for image in images if image.patient_id == patient_id]
        said = {name: values[0] for name, values in judge_members(np.mean(members, axis=0)[:, None], threshold).items()}
        decision = CLASS_NAMES[said.pop("decision")]
        patients.append(PatientScore(patient_id, len(members), decision=decision, **said))
    return Prediction(
        model=version.name,
        version=version.version,
        threshold=threshold,
        synthetic=version.tags.get("synthetic") == "true",
        members=loaded.record.members,
        compared=loaded.likeness is not None,
        images=images,
        patients=patients,
        refused=refused,
    )
