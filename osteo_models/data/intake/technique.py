"""How an image was acquired: whether MR is a T1-weighted spin echo, and which of several CT series is preferred."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import pydicom

from osteo_models.data.geometry import as_list, group_value
from osteo_models.data.intake.header_words import SiteWords, find_meanings

# Where the attributes are in an enhanced object: functional group, keyword (PS3.3 C.8.13.5).
PLACES: Final[dict[str, tuple[str, str]]] = {
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "EchoTrainLength": ("MRTimingAndRelatedParametersSequence", "EchoTrainLength"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "SliceThickness": ("PixelMeasuresSequence", "SliceThickness"),
    "ConvolutionKernel": ("CTReconstructionSequence", "ConvolutionKernel"),
}
COMPONENTS: Final = frozenset(("P", "PHASE", "R", "REAL", "I", "IMAGINARY", "PHASE MAP"))
DIXON_PARTS: Final = frozenset(("W", "WATER", "F", "FAT", "OP", "OPP_PHASE", "OUT_PHASE", "OPPOSED_PHASE"))
OTHER_MAPS: Final = frozenset(("ADC", "DIFFUSION", "TRACEW", "FA", "SUB", "SUBTRACTION", "MIP", "MNIP", "MIN IP",
                               "PROJECTION IMAGE", "T2 MAP", "T1 MAP", "CINE"))  # fmt: skip
MAX_T1_ECHO_MS: Final = 40.0
MIN_T1_REPETITION_MS: Final = 200.0  # of a spin echo; below are scouts
# The longest repetition time of T1: fast spin echoes at 3 T need more, since T1 grows with the field.
MAX_T1_REPETITION_MS: Final = {False: 1200.0, True: 1500.0}
MAX_UNCLEAR_REPETITION_MS: Final = 1800.0
STRONG_FIELD_T: Final = 2.5
T1_INVERSION_MS: Final = (500.0, 1300.0)  # below is STIR, above FLAIR of the brain
MAX_T1_FLAIR_REPETITION_MS: Final = 3500.0
MIN_SPIN_ECHO_FLIP_DEGREES: Final = 60.0


def read_number(dataset: pydicom.Dataset, name: str, frame: int = 0) -> float | None:
    """A positive number of a frame, from its functional group or the top level; None where there is none."""
    group, keyword = PLACES.get(name, ("", name))
    value = group_value(dataset, frame, group, keyword)
    value = dataset.get(name) if value is None and keyword != name else value
    try:
        number = float(as_list(value)[0])
    except (TypeError, ValueError, IndexError):
        return None
    return number if math.isfinite(number) and 0 < number < 1e5 else None


def read_image_types(dataset: pydicom.Dataset, frame: int = 0) -> list[str]:
    """ImageType, or FrameType of an enhanced object, in capitals."""
    for group in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence"):
        if frame_type := group_value(dataset, frame, group, "FrameType"):
            return [str(value).upper() for value in as_list(frame_type)]
    return [str(value).upper() for value in as_list(dataset.get("ImageType"))]


def describe(dataset: pydicom.Dataset) -> list[str]:
    """The descriptions that people and protocols write."""
    keywords = ("StudyDescription", "SeriesDescription", "ProtocolName")
    return [str(dataset.get(keyword) or "") for keyword in keywords]


def judge_weighting(dataset: pydicom.Dataset, frame: int, site_words: SiteWords = ()) -> str:
    """A reason to refuse an MR frame or to doubt it; empty for a T1-weighted spin echo."""
    types = set(read_image_types(dataset, frame)[2:])
    part = str(group_value(dataset, frame, "MRImageFrameTypeSequence", "ComplexImageComponent") or "").upper()
    if types & (COMPONENTS | DIXON_PARTS) or part in COMPONENTS:
        return "not_magnitude"
    if types & OTHER_MAPS:
        return "other_weighting"
    reason = _judge_physics(dataset, frame)
    if reason:
        return reason
    meanings = [find_meanings(text, site_words) for text in describe(dataset)[1:]]
    if any("other_weighting" in found and "t1" not in found for found in meanings):
        return "unknown_weighting"
    return "other_technique" if "MPR" in types or _is_enhanced(dataset) or _is_fat_suppressed(dataset) else ""


def _judge_physics(dataset: pydicom.Dataset, frame: int) -> str:
    sequence = {str(code).upper() for code in as_list(dataset.get("ScanningSequence"))}
    pulse = str(dataset.get("EchoPulseSequence") or "").upper()
    if sequence & {"GR", "EP"} or pulse in ("GRADIENT", "BOTH"):
        return "other_weighting"
    names = ("RepetitionTime", "EchoTime", "InversionTime", "FlipAngle")
    repetition, echo, inversion, flip = (read_number(dataset, name, frame) for name in names)
    contrast = str(group_value(dataset, frame, "MRImageFrameTypeSequence", "AcquisitionContrast") or "").upper()
    if contrast in ("T2", "T2_STAR", "PROTON_DENSITY", "DIFFUSION", "STIR", "FLUID_ATTENUATED", "PERFUSION"):
        return "other_weighting"
    if echo is not None and echo > MAX_T1_ECHO_MS:
        return "other_weighting"
    if inversion is not None or "IR" in sequence:
        return _judge_inversion(inversion, repetition, echo)
    strong = (read_number(dataset, "MagneticFieldStrength") or 0.0) >= STRONG_FIELD_T
    if repetition is not None and repetition > MAX_UNCLEAR_REPETITION_MS:
        return "other_weighting"
    if repetition is None or echo is None or repetition > MAX_T1_REPETITION_MS[strong]:
        return "unknown_weighting"
    spin_echo = "SE" in sequence or pulse == "SPIN"
    if repetition < MIN_T1_REPETITION_MS or (not spin_echo and flip is not None and flip < MIN_SPIN_ECHO_FLIP_DEGREES):
        return "unknown_weighting"
    return ""


def _judge_inversion(inversion: float | None, repetition: float | None, echo: float | None) -> str:
    if inversion is not None and not T1_INVERSION_MS[0] <= inversion <= T1_INVERSION_MS[1]:
        return "other_weighting"
    if inversion is None or repetition is None or echo is None:
        return "unknown_weighting"
    return "" if inversion < repetition <= MAX_T1_FLAIR_REPETITION_MS else "other_weighting"


def _is_enhanced(dataset: pydicom.Dataset) -> bool:
    """Whether a contrast agent is stated; protocols write NONE or NO as well."""
    agents = [str(dataset.get("ContrastBolusAgent") or "")]
    agents += [str(item.get("CodeMeaning") or "") for item in dataset.get("ContrastBolusAgentSequence") or ()]
    return any(agent.strip().upper() not in ("", "NONE", "NO", "N", "0", "NATIVE", "WITHOUT") for agent in agents)


def _is_fat_suppressed(dataset: pydicom.Dataset) -> bool:
    options = {str(option).upper() for option in as_list(dataset.get("ScanOptions"))}
    return bool(options & {"FS", "SPIR", "SPAIR", "WE"})


def rank_ct(dataset: pydicom.Dataset) -> str:
    """What decides between the CT series of a study, as a text that sorts: contrast agent, kernel, slice thickness.

    Without a contrast agent first, as it brightens vertebrae; then smooth kernels, as sharp ones are noisy and
    overshoot at edges; then thin slices.
    """
    kernel = " ".join(_kernels(dataset))
    sharp = "sharp_kernel" in find_meanings(kernel)
    thickness = min(read_number(dataset, "SliceThickness") or 99.0, 99.0)
    return f"{int(_is_enhanced(dataset))}{int(sharp)}{thickness:05.2f}"


def _kernels(dataset: pydicom.Dataset) -> Iterator[str]:
    value: Any = group_value(dataset, 0, *PLACES["ConvolutionKernel"])
    yield from (str(part) for part in as_list(value))
