"""The size that a compressed stream says of itself: decoders allocate by it, whatever the DICOM header says."""

from __future__ import annotations

from itertools import islice

import pydicom
from pydicom.encaps import generate_frames
from pydicom.uid import RLELossless

from osteo_models.data.decoding import find_size
from osteo_models.data.intake.headers import MAX_PIXELS
from osteo_models.data.intake.refusal import Refusal


def check_streams(dataset: pydicom.Dataset, frames: int) -> None:
    """Check every frame's own size before anything is decoded.

    Raises:
        Refusal: A stream is of another size than the header says, or of none.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax == RLELossless:
        return
    for stream in islice(generate_frames(dataset.PixelData, number_of_frames=frames), frames):
        rows, columns = find_size(stream)
        if rows * columns > MAX_PIXELS:
            raise Refusal("too_large")
        if (rows, columns) != (dataset.Rows, dataset.Columns):
            raise Refusal("damaged")
