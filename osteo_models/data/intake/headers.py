"""What intake reads of a DICOM header: what decides whether the file is accepted, and what modelling uses."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import pydicom

from osteo_models.core.terms import DICOM_MODALITY, Modality
from osteo_models.data.decoding import can_decode
from osteo_models.data.dicom_file import MAX_FRAMES, MAX_PIXELS
from osteo_models.data.geometry import MAX_FIELD_MM, Plane, measure_height, read_plane
from osteo_models.data.intake.header_words import SiteWords, find_meanings, judge_body_part
from osteo_models.data.intake.technique import describe, judge_weighting, rank_ct, read_image_types, read_number
from osteo_models.data.pixel_values import check_grey
from osteo_models.data.reasons import DOUBTS, RejectedInput

SIDE_PIXELS: Final = (32, 8192)
CAPTURES: Final = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.104")  # screens; documents in a DICOM file
DIRECTORY: Final = "1.2.840.10008.1.3.10"
TECHNIQUE: Final = ("RepetitionTime", "EchoTime", "MagneticFieldStrength", "KVP")
VENDORS: Final = ("SIEMENS", "GE MEDICAL", "PHILIPS", "CANON", "TOSHIBA", "HITACHI", "FUJIFILM", "UNITED IMAGING")


@dataclass(frozen=True)
class Acquisition:
    """How a slice was acquired.

    Attributes:
        technique: (keyword, value) of the attributes in `TECHNIQUE` that the file has, sorted.
        vendor: One of `VENDORS`, or empty.
        without_text: Whether it is known that no text is burned into the pixels.
    """

    modality: Modality
    thickness_mm: float | None
    technique: tuple[tuple[str, float], ...] = ()
    vendor: str = ""
    without_text: bool = False


@dataclass(frozen=True)
class Header:
    """What a DICOM file holds before its pixels are decoded; the identifiers are the file's own.

    Attributes:
        planes: One for each frame.
        doubt: A key of `DOUBTS`, or empty.
        rank: Place of a CT file among those of its study; sorts.
    """

    acquisition: Acquisition
    patient: str
    study: str
    series: str
    instance: str
    planes: tuple[Plane, ...]
    doubt: str = ""
    rank: str = ""


def read_header(dataset: pydicom.Dataset, site_words: SiteWords = (), *, judged: bool = False) -> Header:
    """Read and check a header.

    Args:
        dataset: With or without its pixels.
        site_words: Further words.
        judged: Whether body part, weighting and text are not judged again.

    Raises:
        RejectedInput: The file cannot be used.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(dataset, site_words, judged)
    except RejectedInput:
        raise
    except Exception:  # noqa: BLE001  values of the wrong kind raise anything when they are read
        raise RejectedInput("damaged") from None


def _read(dataset: pydicom.Dataset, site_words: SiteWords, judged: bool) -> Header:
    if not len(dataset):
        raise RejectedInput("damaged")  # a truncated file reads as an empty data set
    modality = _check_kind(dataset)
    doubts = [] if judged else [_allow_doubt(_judge_body_part(dataset, site_words)), _judge_text(dataset)]
    frames = int(dataset.get("NumberOfFrames") or 1)
    _check_pixels(dataset, frames)
    patient = str(dataset.get("PatientID") or "").strip()
    if not patient:
        raise RejectedInput("no_patient")
    if modality == "mri" and not judged:
        doubts += [_allow_doubt(judge_weighting(dataset, frame, site_words)) for frame in sorted({0, frames - 1})]
    planes = tuple(read_plane(dataset, frame) for frame in range(frames))
    technique = {name: read_number(dataset, name) for name in TECHNIQUE}
    maker = str(dataset.get("Manufacturer") or "").upper()
    acquisition = Acquisition(
        modality=modality,
        thickness_mm=read_number(dataset, "SliceThickness"),
        technique=tuple(sorted((name, value) for name, value in technique.items() if value is not None)),
        vendor=next((vendor for vendor in VENDORS if vendor in maker), ""),
        without_text=str(dataset.get("BurnedInAnnotation") or "").upper() == "NO",
    )
    shape = (int(dataset.Rows), int(dataset.Columns))
    if any(plane.name == "sagittal" and measure_height(plane, shape) > MAX_FIELD_MM for plane in planes):
        doubts.insert(0, "unclear_level")
    doubt = next(filter(None, doubts), "")
    rank = rank_ct(dataset) if modality == "ct" and not judged else ""
    return Header(acquisition, patient, *_identify(dataset, patient), planes, doubt, rank)


def _check_kind(dataset: pydicom.Dataset) -> Modality:
    code = dataset.get("Modality")
    kind = str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")
    types = read_image_types(dataset)
    if kind == DIRECTORY or "DirectoryRecordSequence" in dataset:
        raise RejectedInput("dicomdir")
    if any(kind == uid or kind.startswith(f"{uid}.") for uid in CAPTURES):
        raise RejectedInput("secondary_capture")
    if code not in DICOM_MODALITY:
        raise RejectedInput("other_modality")
    if str(dataset.get("BurnedInAnnotation") or "").upper() == "YES":
        raise RejectedInput("burned_in")
    named = any("localizer" in find_meanings(text) for text in describe(dataset)[1:])
    if "LOCALIZER" in types or "SCOUT" in types or named:
        raise RejectedInput("localizer")
    if "SCREEN SAVE" in types:
        raise RejectedInput("secondary_capture")
    return DICOM_MODALITY[code]


def _allow_doubt(reason: str) -> str:
    if reason and reason not in DOUBTS:
        raise RejectedInput(reason)
    return reason


def _judge_body_part(dataset: pydicom.Dataset, site_words: SiteWords) -> str:
    """A reason to refuse the body part or to doubt it."""
    shared = dataset.get("SharedFunctionalGroupsSequence")
    frames = dataset.get("PerFrameFunctionalGroupsSequence")
    anatomies = [group[0].get("FrameAnatomySequence") for group in (shared, frames) if group]
    regions = [
        dataset.get("AnatomicRegionSequence"),
        *(item[0].get("AnatomicRegionSequence") for item in anatomies if item),
    ]
    texts = describe(dataset) + [str(region[0].get("CodeMeaning") or "") for region in regions if region]
    verdict = judge_body_part(texts, site_words, coded=str(dataset.get("BodyPartExamined") or ""))
    return {"other": "other_body_part", "unclear": "unclear_body_part"}.get(verdict, "")


def _judge_text(dataset: pydicom.Dataset) -> str:
    """A doubt where a made image does not state whether it has text; the pixels are looked at in any case."""
    stated = str(dataset.get("BurnedInAnnotation") or "").upper() == "NO"
    return "unknown_text" if not stated and {"DERIVED", "SECONDARY"} & set(read_image_types(dataset)[:2]) else ""


def _check_pixels(dataset: pydicom.Dataset, frames: int) -> None:
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if not rows or not columns:
        raise RejectedInput("no_pixels")
    check_grey(dataset)
    if not 1 <= frames <= MAX_FRAMES or rows * columns > MAX_PIXELS:
        raise RejectedInput("too_large")
    if not all(SIDE_PIXELS[0] <= side <= SIDE_PIXELS[1] for side in (rows, columns)):
        raise RejectedInput("implausible")
    syntax = str(dataset.file_meta.get("TransferSyntaxUID") or "")
    if syntax and not can_decode(syntax):
        raise RejectedInput("unknown_encoding")


def _identify(dataset: pydicom.Dataset, patient: str) -> tuple[str, str, str]:
    """Study, series and instance (empty where missing); no two people share a study.

    A study UID names the study of one person: an export may use one for several people.
    """
    study = f"{dataset.get('StudyInstanceUID') or ''}\x1f{patient}"
    series = str(dataset.get("SeriesInstanceUID") or f"{study}\x1f{dataset.get('SeriesNumber') or ''}")
    instance = str(dataset.get("SOPInstanceUID") or dataset.file_meta.get("MediaStorageSOPInstanceUID") or "")
    return study, series, instance
