"""The work of a worker process: check the header of an input, or turn inputs into de-identified image files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from osteo_models.core.files import write_atomically
from osteo_models.core.terms import Modality
from osteo_models.data.dicom_file import RejectedInput, is_dicom, parse_dicom
from osteo_models.data.image_file import is_picture
from osteo_models.data.intake.deidentify import Person, encode_picture, encode_slice
from osteo_models.data.intake.headers import Header, read_header
from osteo_models.data.intake.pseudonyms import Pseudonyms
from osteo_models.data.intake.reformat import reformat_sagittal
from osteo_models.data.intake.slices import Slice, decode_picture, decode_slices
from osteo_models.data.intake.sources import Input, read_input

NAME_DIGITS: Final = 16
HASH_SIDE: Final = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Task:
    """An input to write, or an axial series to reformat.

    Attributes:
        inputs: One, or all files of a series.
        person: Their person.
        folder: Folder of the images.
        picture: Modality of a PNG or JPEG.
    """

    inputs: tuple[Input, ...]
    person: Person
    pseudonyms: Pseudonyms
    folder: Path
    picture: Modality | None = None


@dataclass(frozen=True)
class ImageRow:
    """An image file of the data set: a row of images.csv.

    Attributes:
        path: Below the folder of images.
        input: The input that it comes from, by pseudonym; of a series, the first.
        pixels: Hash of the pixels.
        look: Difference hash (256 bits, hexadecimal), of which similar images share most bits.
        look_alike: Path of another patient's image with a similar difference hash.
    """

    path: str
    input: str
    pixels: str
    look: str
    look_alike: str = ""


def identify(source: Input, pseudonyms: Pseudonyms) -> str:
    """Pseudonym of an input: of its source and name, since two exports may both have a file IM0001."""
    return pseudonyms.name(f"{source.source.name}/{source.name}")


def check_headers(inputs: list[Input]) -> list[dict[str, Any] | RejectedInput]:
    """The facts of each input's header, as columns of the import log."""
    return [_or_rejected(_check_header, source) for source in inputs]


def write_images(tasks: list[Task]) -> list[list[ImageRow] | RejectedInput]:
    """Decode, de-identify and write the images of each task."""
    return [_or_rejected(_write, task) for task in tasks]


def _or_rejected(function: Callable[[Item], Result], item: Item) -> Result | RejectedInput:
    try:
        return function(item)
    except RejectedInput as error:
        return error
    except MemoryError:
        return RejectedInput("too_large")


def _check_header(source: Input) -> dict[str, Any]:
    data = read_input(source)
    if is_picture(data):
        return {"plane": "picture"}
    if not is_dicom(data):
        raise RejectedInput("not_an_image")
    header = read_header(parse_dicom(data, pixels=False))
    names = {plane.name for plane in header.planes}
    modality = header.acquisition.modality
    columns: dict[str, Any] = {
        "patient": header.patient,
        "study": header.study,
        "modality": modality,
        "plane": "sagittal" if "sagittal" in names else min(names),
    }
    if modality == "ct" and names == {"axial"}:
        plane = header.planes[0]
        # What makes one volume: the same series, direction and grid.
        grid = (header.series, [round(value, 3) for value in plane.orientation], plane.spacing_mm)
        columns["stack"] = hashlib.sha256(repr((header.patient, header.study, grid)).encode()).hexdigest()
        columns["height"] = plane.position_mm[2]
    return columns


def _write(task: Task) -> list[ImageRow]:
    if task.picture:
        grey = decode_picture(read_input(task.inputs[0]))
        digest = hashlib.sha256(repr((task.picture, grey.shape)).encode() + grey.tobytes()).hexdigest()
        return [_save(task, task.picture, encode_picture(grey), ".png", digest, grey)]
    headers: list[Header] = []
    slices: list[Slice] = []
    for source in task.inputs:
        dataset = parse_dicom(read_input(source))
        headers.append(read_header(dataset))
        slices += decode_slices(dataset, headers[-1])
    header = headers[-1]
    if len(task.inputs) == 1:
        sagittal = [image for image in slices if image.plane.name == "sagittal"]
        return _save_slices(task, header, sagittal, header.series, header.instance)
    return _save_slices(task, header, reformat_sagittal(slices), f"{header.series} sagittal", header.series)


def _save_slices(task: Task, header: Header, slices: Sequence[Slice], series: str, instance: str) -> list[ImageRow]:
    rows: list[ImageRow] = []
    for number, image in enumerate(slices):
        uids = {"study": header.study, "series": series, "instance": f"{instance} {number}"}
        data = encode_slice(image, task.person, task.pseudonyms, **uids)
        rows.append(_save(task, image.acquisition.modality, data, ".dcm", image.digest, image.pixels))
    return rows


def _save(task: Task, modality: Modality, data: bytes, suffix: str, digest: str, pixels: npt.NDArray[Any]) -> ImageRow:
    """Write a file named by its content, completely or not at all."""
    name = f"{task.person.patient_id}/{modality}-{hashlib.sha256(data).hexdigest()[:NAME_DIGITS]}{suffix}"
    write_atomically(task.folder / name, data, durable=False)
    return ImageRow(name, identify(task.inputs[0], task.pseudonyms), digest[:NAME_DIGITS], difference_hash(pixels))


def difference_hash(pixels: npt.NDArray[Any]) -> str:
    """Whether brightness rises from column to column of the image at 16 x 17 pixels: 256 bits in hexadecimal."""
    low, high = float(pixels.min()), float(pixels.max())
    small = Image.fromarray(pixels.astype(np.float32)).resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    # In 255 steps, so that noise in the background is no rise.
    grey = np.rint((np.asarray(small) - low) * (255 / max(high - low, 1.0)))
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()
