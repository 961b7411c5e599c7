"""What `osteo predict` and `osteo explain` are asked: a model, and files for it, read and scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from osteo_models.data.dicom import is_picture
from osteo_models.data.prepare import PreparedImage
from osteo_models.errors import InputError
from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.network import LoadedNetwork
from osteo_models.registry.serving import prepare_image
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import get_version, load_network
from osteo_models.terms import Modality

NOTICE: Final = "Research software, not a medical device."
FAULTS_SHOWN: Final = 5


@dataclass(frozen=True)
class FileImage:
    """One file as the model takes it; score is the probability of osteoporosis, decision the class it means."""

    file: Path
    image: PreparedImage
    score: float
    decision: int


@dataclass(frozen=True)
class Request:
    """A model and what could be read for it; `refused` are the files that could not, with the reason."""

    version: VersionInfo
    loaded: LoadedNetwork
    images: list[FileImage]
    refused: list[str]

    @property
    def synthetic(self) -> bool:
        """Whether the model was trained on a synthetic cohort."""
        return self.version.tags.get("synthetic") == "true"


def read_request(
    tracking: Tracking, path: Path, reference: str, modality: Modality | None, *, device: str = "cpu"
) -> Request:
    """Load a model, read a file, or every file of a folder, and score them.

    Args:
        tracking: The store.
        path: DICOM, PNG or JPEG.
        reference: `NAME@alias`, `NAME/3` or `NAME`.
        modality: Of PNG and JPEG files.
        device: Where to compute.

    Raises:
        InputError: No such path or version, or no file could be scored (with the reasons).
    """
    if not path.exists():
        raise InputError("no such file or folder", where=str(path))
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    version = get_version(tracking, reference)
    loaded = load_network(tracking, version, device=device)
    images: list[tuple[Path, PreparedImage]] = []
    refused: list[str] = []
    for file in files:
        try:
            images.append((file, _read_file(loaded, file, modality)))
        except InputError as error:
            if file == path:
                raise
            refused.append(str(error))
    if not images:
        found = "; ".join(refused[:FAULTS_SHOWN]) if refused else "an empty folder"
        raise InputError(f"nothing to score: {found}", where=str(path), allowed="DICOM, PNG, JPEG")
    scores = loaded.score(np.stack([image.pixels for _, image in images]), [image.modality for _, image in images])
    decisions = scores >= loaded.record.threshold
    scored = [
        FileImage(file, image, float(score), int(decision))
        for (file, image), score, decision in zip(images, scores, decisions, strict=True)
    ]
    return Request(version, loaded, scored, refused)


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
