"""Why an input is refused or doubtful: each code with its explanation."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, str]] = {
    # The file
    "not_an_image": "neither DICOM, PNG nor JPEG",
    "dicomdir": "a DICOMDIR, an index of other files",
    "link": "a link to nothing, or to a file outside the source",
    "long_path": "has a path that is too long for the operating system",
    "damaged": "cannot be read as what it says it is",
    "cut_short": "ends before its pixels do",
    "damaged_pixels": "has pixels that cannot be decoded",
    "damaged_archive": "in a damaged archive, or one itself",
    "too_large": "would take more memory than an image may",
    "no_pixels": "holds no pixels",
    "unknown_encoding": "pixels are in an encoding that no decoder here knows",
    "timeout": "took too long to read",
    "crashed": "ended the process that read it, or ran out of its memory",
    # The kind of image
    "colour": "is in colour",
    "blank": "has one grey value everywhere",
    "other_modality": "neither MR nor CT",
    "secondary_capture": "a screen shot or other secondary capture",
    "burned_in": "says that text is burned into the pixels",
    "localizer": "a localizer",
    "other_body_part": "of another body part than the lumbar spine",
    "other_weighting": "MR, but not a T1-weighted spin echo",
    "not_magnitude": "a phase, real or imaginary part, or a water or fat part",
    "no_scale": "CT without its scale to Hounsfield units",
    # Its geometry
    "no_geometry": "does not say its spacing, orientation or position",
    "implausible": "spacing or size is out of any bounds of a spine image",
    "axial_mr": "axial MR, of which no sagittal view is made",
    "coronal": "coronal",
    "oblique": "more than 35 degrees away from sagittal and axial",
    "few_slices": "of an axial CT series of too few slices, or too little height, for a sagittal view",
    "missing_slices": "of an axial CT series with more than one slice missing in a row",
    "repeated_positions": "of an axial CT series with different slices at one position",
    # The study
    "no_patient": "says no patient",
    "not_in_table": "its patient is not in the clinical table",
    "withdrawn": "its patient was withdrawn from the data set",
    "not_listed": "a picture that the table of pictures does not list",
    "duplicate": "has the same pixels as another accepted input",
    "not_preferred": "of a CT series of a study with a better one",
    "reviewed": "refused by a person",
}
DOUBTS: Final[dict[str, str]] = {
    "unknown_weighting": "does not state enough to know that it is T1-weighted",
    "other_technique": "T1-weighted, but with a contrast agent, fat suppression, or reformatted",
    "unclear_body_part": "states an unknown body part, or different ones",
    "unknown_text": "derived or secondary, and does not state whether text is burned in",
    "letters": "seems to have letters burned into its pixels",
    "unusual_pixels": "looks unlike the accepted images",
    "unclear_level": "does not show where the lumbar spine is",
}


class RejectedInput(Exception):
    """An input file cannot be used.

    Attributes:
        reason: A key of `REASONS`.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)
