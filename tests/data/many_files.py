"""Thousands of small valid DICOM files, quickly: one is made, the others differ in patient and pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.data.intake_files import as_bytes, clinical_table, make_dicom

SIDE = (64, 48)
PER_PATIENT = 20
NAME = "P00000"


def write_export(folder: Path, count: int, seed: int = 0) -> None:
    """Write `<folder>/export` with `count` files, 20 of each patient, and `<folder>/people.csv`."""
    rng = np.random.default_rng(seed)
    whole = as_bytes(make_dicom(patient=NAME))
    head = whole[: -2 * SIDE[0] * SIDE[1]]
    people = [f"P{number:05d}" for number in range(-(-count // PER_PATIENT))]
    for number, name in enumerate(people):
        place = folder / "export" / name
        place.mkdir(parents=True)
        own = head.replace(NAME.encode(), name.encode())
        for image in range(min(PER_PATIENT, count - number * PER_PATIENT)):
            (place / f"{image:03d}.dcm").write_bytes(own + rng.integers(0, 3000, SIDE, dtype=np.uint16).tobytes())
    clinical_table(*people).to_csv(folder / "people.csv", index=False)
