"""What `osteo predict`, `score` and `explain` are asked: a model, and files for it, read and scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from osteo_models.data.dicom import is_picture
from osteo_models.data.prepare import PreparedImage
from osteo_models.errors import InputError
from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.network import LoadedNetwork
from osteo_models.registry.scoring import compare_image, judge_members, prepare_image
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import get_version, load_network
from osteo_models.terms import Modality

NOTICE: Final = "Research software, not a medical device."
UNCOMPARED: Final = "this version has no reference of its training images: nothing was compared with them"
FAULTS_SHOWN: Final = 5


@dataclass(frozen=True)
class FileImage:
    """One file as the model takes it.

    Attributes:
        score: The probability of osteoporosis.
        decision: The class that it means.
        uncertainty: Standard deviation over the members of a fold ensemble; None for a network alone.
        agreement: Share of the members that decide alike.
        members: Every member's score.
        unlike: Why it does not look like the training images, where it was scored all the same.
    """

    file: Path
    image: PreparedImage
    score: float
    decision: int
    uncertainty: float | None
    agreement: float | None
    members: tuple[float, ...]
    unlike: str | None


@dataclass(frozen=True)
class Refusal:
    """A file that could not be scored, or was not."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


@dataclass(frozen=True)
class Request:
    """A model and what could be read for it; `refused` are the files that were not scored."""

    version: VersionInfo
    loaded: LoadedNetwork
    images: list[FileImage]
    refused: list[Refusal]

    @property
    def synthetic(self) -> bool:
        """Whether the model was trained on a synthetic cohort."""
        return self.version.tags.get("synthetic") == "true"


def read_request(
    tracking: Tracking,
    path: Path,
    reference: str,
    modality: Modality | None,
    *,
    accept_unlike: bool = False,
    allow_none: bool = False,
    device: str = "cpu",
) -> Request:
    """Load a model, read a file, or every file of a folder, and score them.

    Args:
        tracking: The store.
        path: DICOM, PNG or JPEG.
        reference: `NAME@alias`, `NAME/3` or `NAME`.
        modality: Of PNG and JPEG files.
        accept_unlike: Score also what does not look like the training images.
        allow_none: Whether it is in order that no file could be scored.
        device: Where to compute.

    Raises:
        InputError: No such path or version, or no file could be scored (with the reasons).
        WeightsError: The version is no model of ours or was changed.
    """
    if not path.exists():
        raise InputError("no such file or folder", where=str(path))
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    version = get_version(tracking, reference)
    loaded = load_network(tracking, version, device=device)
    read: list[tuple[Path, PreparedImage, str | None]] = []
    refused: list[Refusal] = []
    for file in files:
        try:
            image = _read_file(loaded, file, modality)
            read.append((file, image, compare_image(loaded, image, str(file), accept_unlike=accept_unlike)))
        except InputError as error:
            if file == path and not allow_none:
                raise
            refused.append(Refusal(str(file), str(error).removeprefix(f"{file}: ")))
    if not read and not (refused and allow_none):
        found = "; ".join(map(str, refused[:FAULTS_SHOWN])) or "an empty folder"
        raise InputError(f"nothing to score: {found}", where=str(path), allowed="DICOM, PNG, JPEG")
    return Request(version, loaded, list(_score(loaded, read)), refused)


def _score(loaded: LoadedNetwork, read: Sequence[tuple[Path, PreparedImage, str | None]]) -> Iterator[FileImage]:
    if not read:
        return
    modalities: list[Modality | None] = [image.modality for _, image, _ in read]
    members = loaded.score_members(np.stack([image.pixels for _, image, _ in read]), modalities)
    columns = {name: values.tolist() for name, values in judge_members(members, loaded.record.threshold).items()}
    for row, (file, image, unlike) in enumerate(read):
        said = {name: values[row] for name, values in columns.items()}
        yield FileImage(file, image, members=tuple(members[:, row].tolist()), unlike=unlike, **said)


def _read_file(loaded: LoadedNetwork, file: Path, modality: Modality | None) -> PreparedImage:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(file)) from None
    picture = is_picture(data)
    if picture and modality is None and loaded.record.images == "multimodal":
        found = "a picture does not say whether it is MRI or CT"
        raise InputError(found, where=str(file), allowed="mri, ct", remedy="say it with --modality")
    return prepare_image(data, modality if picture else None, loaded.record, str(file))
