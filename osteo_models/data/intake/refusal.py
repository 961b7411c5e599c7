"""Why an input is refused: a closed list of reason codes, so that no text of a file can reach a table or a log."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, str]] = {
    "not_an_image": "neither DICOM, PNG nor JPEG",
    "damaged": "cannot be read as what it says it is",
    "too_large": "would take more memory than an image may",
    "no_pixels": "holds no pixels",
    "unknown_encoding": "pixels are in an encoding that no decoder here knows",
    "colour": "is in colour",
    "other_modality": "neither MR nor CT",
    "secondary_capture": "a screen shot or other secondary capture",
    "burned_in": "says that text is burned into the pixels",
    "localizer": "a localizer",
    "other_body_part": "of another body part than the lumbar spine",
    "no_geometry": "does not say its spacing, orientation or position",
    "other_plane": "not sagittal, and no axial CT that could be reformatted",
    "other_weighting": "MR, but not T1-weighted",
    "no_scale": "CT without its scale to Hounsfield units",
    "short_series": "an axial CT series of too few or unevenly spaced slices for a sagittal reformat",
    "implausible": "spacing or size is out of any bounds of a spine image",
    "no_patient": "says no patient",
    "not_in_table": "its patient is not in the clinical table",
    "withdrawn": "its patient was withdrawn from the data set",
    "not_listed": "a picture that the table of pictures does not list",
    "duplicate": "has the same pixels as another accepted input",
    "timeout": "took too long to read",
    "crashed": "ended the process that read it, or ran out of its memory",
}


class Refusal(Exception):
    """An input is refused, with one of `REASONS`."""

    def __init__(self, reason: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}")
        self.reason = reason
        super().__init__(reason)
