"""The work of a worker process: check the header of an input, or turn inputs into de-identified image files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from osteo_models.core.files import write_atomically
from osteo_models.core.terms import Modality
from osteo_models.data.dicom_file import is_dicom, parse_dicom
from osteo_models.data.geometry import MAX_FIELD_MM, Plane, make_upright, measure_height
from osteo_models.data.image_file import is_picture
from osteo_models.data.intake.burned_in_text import has_letters
from osteo_models.data.intake.deidentify import Person, encode_picture, encode_slice
from osteo_models.data.intake.header_words import SiteWords
from osteo_models.data.intake.headers import SIDE_PIXELS, Header, read_header
from osteo_models.data.intake.pseudonyms import Pseudonyms
from osteo_models.data.intake.reformat import (
    SAME_POSITION_MM,
    Stack,
    find_column,
    find_gap_fault,
    find_heights,
    reformat_sagittal,
)
from osteo_models.data.intake.slices import Slice, decode_slices
from osteo_models.data.intake.sources import Input, read_input
from osteo_models.data.pixel_values import read_picture
from osteo_models.data.reasons import RejectedInput

NAME_DIGITS: Final = 16
HASH_SIDE: Final = 16

COLUMN_SLICES: Final = 24  # of an axial series, in which the column is found

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class AxialFrame:
    """A slice of an axial series: the number of its input, of its frame, and its plane."""

    source: int
    frame: int
    plane: Plane


@dataclass(frozen=True)
class Task:
    """An input to write, or an axial series to reformat.

    Attributes:
        inputs: One, or all files of a series.
        person: Their person.
        folder: Folder of the images.
        picture: Modality of a PNG or JPEG.
        axial: The slices of an axial series from the feet to the head; none for other inputs.
        doubt: Of the header.
        reviewed: Whether a person accepted the input: then it has no burned-in text.
    """

    inputs: tuple[Input, ...]
    person: Person
    pseudonyms: Pseudonyms
    folder: Path
    picture: Modality | None = None
    axial: tuple[AxialFrame, ...] = ()
    doubt: str = ""
    reviewed: bool = False


@dataclass(frozen=True)
class Written:
    """The outcome of a task.

    Attributes:
        images: What was written.
        faults: Reasons of inputs of a series that are refused, by their number; the others made the images.
        doubt: Of the pixels; a key of `DOUBTS`, or empty.
    """

    images: list[ImageRow]
    faults: dict[int, str] = field(default_factory=dict)
    doubt: str = ""


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


def check_headers(inputs: list[Input], site_words: SiteWords = ()) -> list[dict[str, Any] | RejectedInput]:
    """The facts of each input's header, as columns of the import log."""
    return [_or_rejected(partial(_check_header, site_words=site_words), source) for source in inputs]


def write_images(tasks: list[Task]) -> list[Written | RejectedInput]:
    """Decode, de-identify and write the images of each task."""
    return [_or_rejected(_write, task) for task in tasks]


def _or_rejected(function: Callable[[Item], Result], item: Item) -> Result | RejectedInput:
    try:
        return function(item)
    except RejectedInput as error:
        return error
    except MemoryError:
        return RejectedInput("too_large")


def _check_header(source: Input, site_words: SiteWords) -> dict[str, Any]:
    data = read_input(source)
    if is_picture(data):
        return {"plane": "picture"}
    if not is_dicom(data):
        raise RejectedInput("not_an_image")
    dataset = parse_dicom(data, pixels=False)
    header = read_header(dataset, site_words)
    names = {plane.name for plane in header.planes}
    modality = header.acquisition.modality
    columns: dict[str, Any] = {
        **{name: getattr(header, name) for name in ("patient", "study", "series", "doubt", "rank")},
        "modality": modality,
        "plane": "sagittal" if "sagittal" in names else min(names),
        "frames": len(header.planes),
    }
    if modality == "ct" and names == {"axial"}:
        shape = (int(dataset.Rows), int(dataset.Columns))
        spacing = [round(value, 3) for value in header.planes[0].spacing_mm]
        grid = (header.patient, header.study, header.series, shape, spacing)  # what makes one volume, with directions
        columns |= {
            "stack": hashlib.sha256(repr(grid).encode()).hexdigest(),
            "acquisition": str(dataset.get("AcquisitionNumber") or ""),
            "geometry": {"shape": shape, "planes": [astuple(plane) for plane in header.planes]},
        }
    return columns


def _write(task: Task) -> Written:
    if task.picture:
        grey = read_picture(read_input(task.inputs[0]), SIDE_PIXELS[0])
        if grey.min() == grey.max():
            raise RejectedInput("blank")
        digest = hashlib.sha256(repr((task.picture, grey.shape)).encode() + grey.tobytes()).hexdigest()
        image = _save(task, task.picture, encode_picture(grey), ".png", digest, grey)
        return Written([image], doubt="letters" if has_letters(grey) else "")
    if task.axial:
        return _write_axial(task)
    dataset = parse_dicom(read_input(task.inputs[0]))
    header = read_header(dataset, judged=True)
    sagittal = [number for number, plane in enumerate(header.planes) if plane.name == "sagittal"]
    slices = [_turn_upright(image) for image in decode_slices(dataset, header, sagittal)]
    return _save_slices(task, header, slices, header.series, header.instance)


def _write_axial(task: Task) -> Written:
    """Reformat a series; where files of it are damaged, once more without them."""
    faults: dict[int, str] = {}
    frames, slices = list(task.axial), list[Slice]()
    first = parse_dicom(read_input(task.inputs[frames[0].source]), pixels=False)
    header = read_header(first, judged=True)
    while not slices:
        known = len(faults)
        stack = Stack(tuple(frame.plane for frame in frames), (int(first.Rows), int(first.Columns)))
        try:
            column = find_column(_load_axial(task, frames[:: max(1, len(frames) // COLUMN_SLICES)], faults))
            slices = reformat_sagittal(stack, column, _load_axial(task, frames, faults))
        except RejectedInput:
            if len(faults) == known:
                raise
        if set(list(faults.values())[known:]) - {"duplicate"}:
            slices = []
        frames = [frame for frame in frames if frame.source not in faults]
        if not slices and find_gap_fault(find_heights([frame.plane for frame in frames])):
            raise RejectedInput(next(reason for reason in faults.values() if reason != "duplicate"))
    written = _save_slices(task, header, slices, f"{header.series} sagittal", header.series)
    return replace(written, faults=faults)


def _load_axial(task: Task, frames: Sequence[AxialFrame], faults: dict[int, str]) -> Iterator[Slice]:
    """The slices of a series, one after the other; of several equal ones at a position the first.

    Args:
        task: The series.
        frames: The slices to read.
        faults: Filled with the reasons of inputs that cannot be used.

    Raises:
        RejectedInput: Different slices are at one position.
    """
    last: Slice | None = None
    for source, group in groupby(frames, key=lambda frame: frame.source):
        try:
            dataset = parse_dicom(read_input(task.inputs[source]))
            images = decode_slices(dataset, read_header(dataset, judged=True), [frame.frame for frame in group])
            while (image := next(images, None)) is not None:
                if last is None or math.dist(image.plane.position_mm, last.plane.position_mm) > SAME_POSITION_MM:
                    last = image
                    yield image
                elif np.array_equal(image.pixels, last.pixels):
                    faults[source] = "duplicate"
                else:
                    raise _Repeated("repeated_positions")
        except _Repeated:
            raise
        except RejectedInput as error:
            faults[source] = error.reason


class _Repeated(RejectedInput):
    """Different slices at one position, which spoils the series, not a file."""


def _turn_upright(image: Slice) -> Slice:
    pixels, plane = make_upright(image.pixels, image.plane)
    return replace(image, pixels=pixels, plane=plane)


def _save_slices(task: Task, header: Header, slices: Sequence[Slice], series: str, instance: str) -> Written:
    rows: list[ImageRow] = []
    doubts: list[str] = []
    for number, image in enumerate(slices):
        if task.reviewed:
            image = replace(image, acquisition=replace(image.acquisition, without_text=True))
        uids = {"study": header.study, "series": series, "instance": f"{instance or image.digest} {number}"}
        data = encode_slice(image, task.person, task.pseudonyms, **uids)
        rows.append(_save(task, image.acquisition.modality, data, ".dcm", image.digest, image.pixels))
        tall = measure_height(image.plane, image.pixels.shape) > MAX_FIELD_MM
        doubts += ["unclear_level"] * tall + ["letters"] * has_letters(image.pixels)
    return Written(rows, doubt=max(doubts, default=""))


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
