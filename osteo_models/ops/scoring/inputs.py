"""What `osteo predict`, `score` and `explain` are asked: a model, and files for it, read and scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from osteo_models.core.errors import InputError
from osteo_models.core.terms import Modality
from osteo_models.data.image_file import is_picture
from osteo_models.data.prepare import PreparedImage
from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import get_version, load_network
from osteo_models.serving.network import LoadedNetwork
from osteo_models.serving.score_rows import examine_images, judge_members, prepare_image, refuse_unlike

NOTICE: Final = "Research software, not a medical device."
UNCOMPARED: Final = "this version has no reference of its training images: nothing was compared with them"
PIXELS_ONLY: Final = "this version has no reference in its own features: images were compared by their pixels alone"
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
    def notices(self) -> tuple[str, ...]:
        """What was not compared."""
        if self.loaded.features:
            return ()
        return (PIXELS_ONLY,) if self.loaded.likeness else (UNCOMPARED,)

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
    read: dict[Path, PreparedImage] = {}
    faults: dict[Path, InputError] = {}
    for file in files:
        try:
            read[file] = _read_file(loaded, file, modality)
        except InputError as error:
            faults[file] = error
    images: list[FileImage] = []
    for image in _score(loaded, read):
        if image.unlike and not accept_unlike:
            faults[image.file] = refuse_unlike(image.unlike, str(image.file))
        else:
            images.append(image)
    if path in faults and not allow_none:
        raise faults[path]
    refused = [Refusal(str(file), str(faults[file]).removeprefix(f"{file}: ")) for file in sorted(faults)]
    if not images and not (refused and allow_none):
        found = "; ".join(map(str, refused[:FAULTS_SHOWN])) or "an empty folder"
        raise InputError(f"nothing to score: {found}", where=str(path), allowed="DICOM, PNG, JPEG")
    return Request(version, loaded, images, refused)


def _score(loaded: LoadedNetwork, read: Mapping[Path, PreparedImage]) -> Iterator[FileImage]:
    members, unlike = examine_images(loaded, list(read.values()))
    columns = {name: values.tolist() for name, values in judge_members(members, loaded.record.threshold).items()}
    for row, (file, image) in enumerate(read.items()):
        said = {name: values[row] for name, values in columns.items()}
        yield FileImage(file, image, members=tuple(members[:, row].tolist()), unlike=unlike[row], **said)


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
