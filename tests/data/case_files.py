"""DICOM files with known content: a drawn spine, and CT series through an analytic body."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from tests.data.intake_files import AXIAL, make_dicom

ENHANCED = {"MR": "1.2.840.10008.5.1.4.1.1.4.1", "CT": "1.2.840.10008.5.1.4.1.1.2.1"}


def draw_spine(rows: int = 320, columns: int = 256, seed: int = 0) -> np.ndarray:
    """Bright bodies near the back, brighter to the feet, and the fat of the back; 0 to 1200."""
    pixels = np.random.default_rng(seed).integers(0, 30, (rows, columns)).astype(np.uint16)
    pixels[:, columns // 5 :] += 200
    for number in range(8):
        top = 10 + number * rows // 8
        pixels[top : top + rows // 11, columns // 2 : columns // 2 + columns // 6] = 500 + 80 * number
    pixels[:, -columns // 6 :] = 1100
    return pixels


def make_slice(modality: str = "MR", pixels: np.ndarray | None = None, *, seed: int = 0, **changes: object) -> Dataset:
    """A sagittal slice of the drawn spine, alone in its study, that intake accepts but for `changes`."""
    stored = draw_spine(seed=seed) if pixels is None else pixels
    bits = 8 * stored.itemsize
    uids = {f"{level}InstanceUID": f"1.2.{seed + 1}.{number}" for number, level in enumerate(("Study", "Series"))}
    values: dict[str, object] = {
        "Rows": stored.shape[0], "Columns": stored.shape[1], "BitsAllocated": bits, "BitsStored": bits,
        "HighBit": bits - 1, "PixelRepresentation": int(stored.dtype.kind == "i"), "PixelData": stored.tobytes(),
        "PixelSpacing": [0.9375, 0.9375], "ImagePositionPatient": [0.0, -120.0, 150.0], "BodyPartExamined": "LSPINE",
    }  # fmt: skip
    return make_dicom(modality, seed=seed, **uids | values | changes)


def body_hu(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Hounsfield units at patient coordinates: an upright body, seven balls of which no two are alike, and a rod."""
    x, y, z = np.broadcast_arrays(x, y, z)
    values = np.full(x.shape, -1000.0)
    values[(x / 90) ** 2 + (y / 70) ** 2 < 1] = 40
    for number, height in enumerate(range(-90, 91, 30)):
        values[x**2 + (y - 20) ** 2 + (z - height) ** 2 < 121] = 400 + 40 * number
    values[(np.abs(x - 1) < 2.7) & (np.abs(y - 45) < 4)] = 700
    return values


def make_axial(
    count: int = 60,
    *,
    side: int = 128,
    pixel_mm: float = 1.6,
    direction: Sequence[float] = AXIAL,
    step: Sequence[float] = (0.0, 0.0, 3.0),
) -> list[Dataset]:
    """An axial CT series through `body_hu`; `step` leads from slice to slice, in patient coordinates."""
    across, down, each = np.array(direction[:3], float), np.array(direction[3:], float), np.array(step)
    first = -(across + down) * pixel_mm * (side - 1) / 2 - each * (count - 1) / 2
    columns, rows = np.meshgrid(np.arange(side), np.arange(side))
    series: list[Dataset] = []
    for number in range(count):
        corner = first + each * number
        points = (corner[axis] + columns * pixel_mm * across[axis] + rows * pixel_mm * down[axis] for axis in range(3))
        stored = np.rint(body_hu(*points) + 1024).astype(np.int16)
        uids = {"StudyInstanceUID": "1.2.9.1", "SeriesInstanceUID": "1.2.9.2", "SOPInstanceUID": f"1.2.9.3.{number}"}
        plane = {
            "ImageOrientationPatient": [round(float(value), 6) for value in direction],
            "ImagePositionPatient": [round(float(value), 4) for value in corner],
            "PixelSpacing": [pixel_mm, pixel_mm],
            "SliceThickness": 3,
        }
        series.append(make_slice("CT", stored, seed=number, **uids | plane))
    return series


def merge_axial(series: Sequence[Dataset]) -> Dataset:
    """The slices of a series as one enhanced object."""
    whole = series[0]
    geometry = group(PixelSpacing=whole.PixelSpacing), group(ImageOrientationPatient=whole.ImageOrientationPatient)
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = ENHANCED["CT"]
    whole.PerFrameFunctionalGroupsSequence = pydicom.Sequence(
        group(PlanePositionSequence=group(ImagePositionPatient=each.ImagePositionPatient))[0] for each in series
    )
    whole.SharedFunctionalGroupsSequence = group(
        PixelMeasuresSequence=geometry[0],
        PlaneOrientationSequence=geometry[1],
        PixelValueTransformationSequence=group(RescaleSlope=1, RescaleIntercept=-1024),
    )
    whole.NumberOfFrames, whole.PixelData = len(series), b"".join(each.PixelData for each in series)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(whole, name)
    return whole


def make_enhanced_mr(repetition_ms: float, echo_ms: float, region: str, frames: int = 3) -> Dataset:
    """An enhanced MR object whose facts are in its functional groups alone."""
    whole = make_slice(NumberOfFrames=frames, SOPClassUID=ENHANCED["MR"])
    whole.PixelData = b"".join(draw_spine(seed=number).tobytes() for number in range(frames))
    anatomy = group(FrameLaterality="U", AnatomicRegionSequence=group(CodeMeaning=region))
    whole.SharedFunctionalGroupsSequence = group(
        PixelMeasuresSequence=group(PixelSpacing=[0.9375, 0.9375], SliceThickness=4),
        PlaneOrientationSequence=group(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
        MRTimingAndRelatedParametersSequence=group(RepetitionTime=repetition_ms),
        MREchoSequence=group(EffectiveEchoTime=echo_ms),
        FrameAnatomySequence=anatomy,
    )
    whole.PerFrameFunctionalGroupsSequence = pydicom.Sequence(
        group(PlanePositionSequence=group(ImagePositionPatient=[4.0 * number, -120, 150]))[0]
        for number in range(frames)
    )
    inside = ("RepetitionTime", "EchoTime", "BodyPartExamined", "PixelSpacing", "SliceThickness")
    for name in (*inside, "ImageOrientationPatient", "ImagePositionPatient"):
        delattr(whole, name)
    return whole


def group(**values: object) -> pydicom.Sequence:
    """A sequence of one item."""
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return pydicom.Sequence([item])
