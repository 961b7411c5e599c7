"""What a worker does: judge a header, or turn an input into de-identified image files. Runs in worker processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from osteo_models.core.files import write_atomically
from osteo_models.core.terms import Modality
from osteo_models.data.image_file import is_dicom, is_picture
from osteo_models.data.intake.deidentify import Person, encode_picture, encode_slice
from osteo_models.data.intake.headers import Header, Plane, parse, read_header
from osteo_models.data.intake.pseudonyms import Pseudonyms
from osteo_models.data.intake.reformat import reformat_sagittal
from osteo_models.data.intake.slices import Slice, decode_picture, decode_slices
from osteo_models.data.intake.sources import Input, Refusal, read_input

NAME_DIGITS: Final = 16
LOOK_SIDE: Final = 16


@dataclass(frozen=True)
class Task:
    """An input to be written, or an axial series to be reformatted, for a known person.

    Attributes:
        inputs: One, or all files of a series.
        picture: The modality of a PNG or JPEG.
    """

    inputs: tuple[Input, ...]
    person: Person
    pseudonyms: Pseudonyms
    folder: Path
    picture: Modality | None = None


@dataclass(frozen=True)
class Written:
    """An image file that was written.

    Attributes:
        path: Below the folder of images.
        pixels: Hash of the pixels.
        look: 256 bits that alike images share most of, in hexadecimal.
    """

    path: str
    pixels: str
    look: str


def judge_headers(inputs: list[Input]) -> list[dict[str, Any] | Refusal]:
    """What each input is, by its header."""
    return [_judge(item) for item in inputs]


def _judge(item: Input) -> dict[str, Any] | Refusal:
    try:
        data = read_input(item)
        if is_picture(data):
            return {"plane": "picture"}
        if not is_dicom(data):
            return Refusal("not_an_image")
        return _describe(read_header(parse(data, pixels=False)))
    except Refusal as refusal:
        return refusal
    except MemoryError:
        return Refusal("too_large")


def _describe(header: Header) -> dict[str, Any]:
    planes = {plane.name for plane in header.planes}
    found: dict[str, Any] = {
        "patient": header.patient,
        "study": header.study,
        "series": header.series,
        "modality": header.modality,
        "plane": "sagittal" if "sagittal" in planes else min(planes),
    }
    if header.modality == "ct" and planes == {"axial"}:
        plane: Plane = header.planes[0]
        # What makes one volume: the same series, direction and grid.
        grid = (header.series, [round(value, 3) for value in plane.orientation], plane.spacing_mm)
        found["stack"] = hashlib.sha256(repr((header.patient, header.study, grid)).encode()).hexdigest()
        found["height"] = plane.position_mm[2]
    return found


def write_images(tasks: list[Task]) -> list[list[Written] | Refusal]:
    """Decode, de-identify and write each task's images."""
    return [_write(task) for task in tasks]


def _write(task: Task) -> list[Written] | Refusal:
    try:
        if task.picture:
            return [_write_picture(task, task.picture)]
        if len(task.inputs) == 1:
            return _write_sagittal(task)
        return _write_reformat(task)
    except Refusal as refusal:
        return refusal
    except MemoryError:
        return Refusal("too_large")


def _write_picture(task: Task, modality: Modality) -> Written:
    grey = decode_picture(read_input(task.inputs[0]))
    digest = hashlib.sha256(repr((modality, grey.shape)).encode() + grey.tobytes()).hexdigest()
    return _save(task, modality, encode_picture(grey), ".png", digest, grey)


def _write_sagittal(task: Task) -> list[Written]:
    dataset = parse(read_input(task.inputs[0]), pixels=True)
    header = read_header(dataset)
    kept = [each for each in decode_slices(dataset, header) if each.plane.name == "sagittal"]
    return _save_slices(task, header, kept)


def _write_reformat(task: Task) -> list[Written]:
    slices: list[Slice] = []
    header: Header | None = None
    for item in task.inputs:
        dataset = parse(read_input(item), pixels=True)
        header = read_header(dataset)
        slices += decode_slices(dataset, header)
    if header is None:
        raise Refusal("short_series")
    return _save_slices(task, header, reformat_sagittal(slices), of_series=True)


def _save_slices(task: Task, header: Header, slices: Iterable[Slice], *, of_series: bool = False) -> list[Written]:
    written: list[Written] = []
    for number, each in enumerate(slices):
        names = {
            "study": header.study,
            "series": f"{header.series} sagittal" if of_series else header.series,
            "instance": f"{header.series if of_series else header.instance} {number}",
        }
        data = encode_slice(each, task.person, task.pseudonyms, **names)
        written.append(_save(task, each.modality, data, ".dcm", each.digest, each.pixels))
    return written


def _save(task: Task, modality: Modality, data: bytes, ending: str, digest: str, pixels: npt.NDArray[Any]) -> Written:
    """Write a file named by its content, whole or not at all."""
    name = f"{task.person.patient_id}/{modality}-{hashlib.sha256(data).hexdigest()[:NAME_DIGITS]}{ending}"
    path = task.folder / name
    write_atomically(path, data, durable=False)
    return Written(name, digest[:NAME_DIGITS], look_of(pixels))


def look_of(pixels: npt.NDArray[Any]) -> str:
    """A difference hash: whether brightness rises from column to column of the image at 16 x 17 pixels."""
    low, high = float(pixels.min()), float(pixels.max())
    small = Image.fromarray(pixels.astype(np.float32)).resize((LOOK_SIDE + 1, LOOK_SIDE), Image.Resampling.BOX)
    # In 255 steps, so that noise in the background is no rise.
    grey = np.rint((np.asarray(small) - low) * (255 / max(high - low, 1.0)))
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()
