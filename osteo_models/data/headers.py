"""The headers of the cohort's images as a table: study, series, scanner, and the settings of the acquisition."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from osteo_models.data.dicom import HEADER_NUMBERS, read_header

HEADER_COLUMNS = ("image_id", "study", "series", "scanner", *HEADER_NUMBERS)


def read_headers(images: pd.DataFrame, dicom: Path) -> pd.DataFrame:
    """Read the header of every image, without its pixels.

    Args:
        images: image_id and path (relative to `dicom`), as `list_images` gives them.
        dicom: The folder of the image files.

    Returns:
        The columns `HEADER_COLUMNS`, in the order of `images`; a number that a header lacks is NaN. Study and series
        are hashes: the identifiers themselves stay in the files.

    Raises:
        ImageError: A file that cannot be read.
    """
    rows: list[dict[str, object]] = []
    for image_id, path in zip(images["image_id"], images["path"], strict=True):
        header = read_header((dicom / str(path)).read_bytes(), where=str(dicom / str(path)))
        row: dict[str, object] = {"image_id": image_id, "study": header.study, "series": header.series}
        rows.append(row | {"scanner": header.scanner} | dict(header.numbers))
    return pd.DataFrame(rows, columns=list(HEADER_COLUMNS))
