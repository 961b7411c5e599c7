"""The series of a study: the volumes of an axial one, and which of several CT series is preferred."""

from __future__ import annotations

from typing import Final

import numpy as np

from osteo_models.data.geometry import Plane
from osteo_models.data.intake.import_log import Row
from osteo_models.data.intake.reading import AxialFrame
from osteo_models.data.intake.reformat import SAME_POSITION_MM, find_heights, group_directions

MIN_VIEWS: Final = 5  # of a sagittal CT series


def split_volumes(rows: list[Row]) -> list[list[Row]]:
    """The inputs of a series by direction, and by acquisition where slices of several are at one position."""
    groups = group_directions([Plane(*row["geometry"]["planes"][0]) for row in rows])
    volumes: list[list[Row]] = []
    for group in sorted(set(groups)):
        volume = [row for row, number in zip(rows, groups, strict=True) if number == group]
        heights = np.sort(find_heights([frame.plane for frame in list_frames(volume)]))
        repeated = bool((np.diff(heights) <= SAME_POSITION_MM).any())
        acquisitions = sorted({row["acquisition"] for row in volume}) if repeated else []
        volumes += [[row for row in volume if row["acquisition"] == name] for name in acquisitions] or [volume]
    return volumes


def list_frames(rows: list[Row]) -> list[AxialFrame]:
    """The slices of an axial series from the feet to the head."""
    frames = [
        AxialFrame(source, frame, Plane(*map(tuple, plane)))
        for source, row in enumerate(rows)
        for frame, plane in enumerate(row["geometry"]["planes"])
    ]
    return [frames[index] for index in np.argsort(find_heights([frame.plane for frame in frames]), kind="stable")]


def rank_series(series: Row) -> tuple[bool, bool, bool, str, int, str]:
    """What sorts the CT series of a study, the best one first.

    Certain before doubtful; sagittal views before an axial series, unless they are so few that they may be scouts;
    then by contrast agent, kernel and slice thickness (`technique.rank_ct`), and the most slices.
    """
    sagittal = series["plane"] == "sagittal"
    few = sagittal and series["frames"] < MIN_VIEWS
    return bool(series["doubt"]), few, not sagittal, series["rank"] or "", -series["frames"], series["stack"] or ""
