"""Where a data set came from: made by the phantom, or imported."""

from __future__ import annotations

from pathlib import Path

from osteo_models.errors import ParamsError
from osteo_models.params import PARAMS_FILE, Data

INTAKE = "intake.csv"  # in every data set that was imported


def check_origin(root: Path, data: Data) -> None:
    """See that an imported data set is not called synthetic: every page would say so, and no stage could explain it.

    Raises:
        ParamsError: It is.
    """
    if data.synthetic is not None and (root / data.path / INTAKE).is_file():
        found = f"`data.synthetic` is set, but {data.path} was imported: it has {INTAKE}"
        remedy = f"take `data.synthetic` out of {PARAMS_FILE}"
        raise ParamsError(found, where=PARAMS_FILE, remedy=remedy)
