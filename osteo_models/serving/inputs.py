"""Scoring inputs: the bytes of an image file, or one row of a request, as a network takes them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from osteo_models.core.errors import ImageError, InputError
from osteo_models.core.terms import MODALITIES, Modality
from osteo_models.data.image_file import is_picture
from osteo_models.data.prepare import PreparedImage, prepare_bytes
from osteo_models.serving.model_record import ModelRecord

MOST_CHARACTERS: Final = 48_000_000  # of one image in base64: 36 MB
BASE64: Final = "base64 of a DICOM, PNG or JPEG file"


def prepare_image(data: bytes, modality: Modality | None, record: ModelRecord, where: str) -> PreparedImage:
    """Prepare an image file for a model, and determine its modality.

    Args:
        data: The whole file.
        modality: What the caller knows of it.
        record: The model's.
        where: Name of the file in errors.

    Raises:
        ImageError: The file cannot be read, or the model does not take it.
    """
    taken = record.modalities
    allowed = f"this model takes {' and '.join(taken)}"
    if modality is not None and modality not in taken:
        raise ImageError(f"`modality` is {modality!r}", where=where, allowed=allowed)
    image = prepare_bytes(data, prepare=record.prepare, modality=modality, where=where)
    known = image.modality or (taken[0] if len(taken) == 1 else None)
    if known is not None and known not in taken:
        raise ImageError(f"the file is {known}", where=where, allowed=allowed)
    if known is None and record.images == "multimodal":
        found = f"neither the file nor `modality` says {' or '.join(taken)}"
        raise ImageError(found, where=where, allowed=", ".join(taken))
    return PreparedImage(image.pixels, known, image.patient_id)


def prepare_file(path: Path, modality: Modality | None, record: ModelRecord) -> PreparedImage:
    """Read and prepare a file; `modality` counts for PNG and JPEG files only.

    Raises:
        InputError: The file cannot be read, or the model does not take it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from None
    picture = is_picture(data)
    if picture and modality is None and record.images == "multimodal":
        found = "a picture does not say whether it is MRI or CT"
        raise InputError(found, where=str(path), allowed=", ".join(record.modalities), remedy="say it with --modality")
    return prepare_image(data, modality if picture else None, record, str(path))


def prepare_row(row: Mapping[Any, Any], record: ModelRecord, where: str) -> PreparedImage:
    """Decode and prepare the image of one row of a request.

    Raises:
        ImageError: It is no image, or none that the model takes.
    """
    modality = _read_modality(row, where)
    encoded = read_cell(row["image"]) or ""
    if len(encoded) > MOST_CHARACTERS:
        found = f"`image` has {len(encoded):,} characters"
        raise ImageError(found, where=where, allowed=f"up to {MOST_CHARACTERS:,}: one slice, not a series")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("`image` is no base64", where=where, allowed=BASE64) from None
    if not data:
        raise ImageError("`image` is empty", where=where, allowed=BASE64)
    return prepare_image(data, modality, record, where)


def _read_modality(row: Mapping[Any, Any], where: str) -> Modality | None:
    name = read_cell(row.get("modality"))
    for modality in MODALITIES:
        if name is not None and name.lower() == modality:
            return modality
    if name is None:
        return None
    raise ImageError(f"`modality` is {name!r}", where=where, allowed=", ".join(MODALITIES))


def read_cell(value: object) -> str | None:
    """A cell of a table as text; a missing one is None or NaN, depending on its neighbours."""
    return None if value is None or value != value or value == "" else str(value)
