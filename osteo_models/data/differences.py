"""What changed between two revisions of the data set, in a team's words: people, labels, pixels, places, shift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from osteo_models.data.dicom import read_image
from osteo_models.data.history import Revision
from osteo_models.errors import ImageError
from osteo_models.terms import CLASS_NAMES

IMAGES = "dicom/"
PLACES = ("holdout", "patient_test", "fold_image", "fold_patient")


@dataclass(frozen=True)
class Difference:
    """Changes from one revision to another.

    Attributes:
        patients_added: Pseudonyms.
        labels_flipped: People whose class changed: {patient, modality: from -> to}.
        pixels_changed: Images whose pixels differ.
        header_only: Images of which only the header differs.
        moved: Images that changed sides: {column: [image ids]}; `into_holdout` are those that nothing may train on now.
        shift: Class, sex and age before and after, for each modality.
    """

    before: str
    after: str
    digest_before: str
    digest_after: str
    patients_added: list[str]
    patients_removed: list[str]
    images_added: list[str]
    images_removed: list[str]
    labels_flipped: list[str]
    pixels_changed: list[str]
    header_only: list[str]
    moved: dict[str, list[str]]
    into_holdout: list[str]
    tables_changed: list[str]
    shift: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether the revisions hold the same data set."""
        return self.digest_before == self.digest_after

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)


def compare_revisions(before: Revision, after: Revision) -> Difference:
    """Compare two revisions; only images whose bytes differ are read.

    Raises:
        StoreError: A changed file is not in the DVC cache.
    """
    old, new = (_images(revision.files) for revision in (before, after))
    changed = sorted(path for path in old.keys() & new.keys() if old[path] != new[path])
    pixels = [path for path in changed if _pixels_differ(before.read(path), after.read(path))]
    people_before, people_after = (_people(revision) for revision in (before, after))
    notes: list[str] = []
    moved: dict[str, list[str]] = {}
    into: list[str] = []
    flipped: list[str] = []
    if before.splits is None or after.splits is None:
        lacking = " and ".join(revision.name for revision in (before, after) if revision.splits is None)
        notes.append(f"no splits are recorded for {lacking}: labels and places cannot be compared")
    else:
        moved, into = _moved(before.splits, after.splits)
        flipped = _flipped(before.splits, after.splits)
    return Difference(
        before=before.name,
        after=after.name,
        digest_before=before.digest,
        digest_after=after.digest,
        patients_added=sorted(people_after - people_before),
        patients_removed=sorted(people_before - people_after),
        images_added=sorted(new.keys() - old.keys()),
        images_removed=sorted(old.keys() - new.keys()),
        labels_flipped=flipped,
        pixels_changed=pixels,
        header_only=sorted(set(changed) - set(pixels)),
        moved=moved,
        into_holdout=into,
        tables_changed=_tables_changed(before.files, after.files),
        shift=_shift(before.splits, after.splits),
        notes=notes,
    )


def _images(files: Mapping[str, str]) -> dict[str, str]:
    return {path: digest for path, digest in files.items() if path.startswith(IMAGES)}


def _people(revision: Revision) -> set[str]:
    return {path.split("/")[1] for path in _images(revision.files)}


def _tables_changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    names = {path for path in (*before, *after) if not path.startswith(IMAGES)}
    return sorted(name for name in names if before.get(name) != after.get(name))


def _pixels_differ(before: bytes, after: bytes) -> bool:
    try:
        first, second = (read_image(data, where="image") for data in (before, after))
    except ImageError:
        return True
    return first.spacing_mm != second.spacing_mm or not np.array_equal(first.pixels, second.pixels)


def _moved(before: pd.DataFrame, after: pd.DataFrame) -> tuple[dict[str, list[str]], list[str]]:
    both = before.merge(after, on="image_id", suffixes=("_before", "_after"))
    moved: dict[str, list[str]] = {}
    for column in PLACES:
        old, new = (both[f"{column}_{side}"].astype("Int64").fillna(-1) for side in ("before", "after"))
        moved[column] = sorted(both.loc[(old != new).to_numpy(bool), "image_id"].astype(str))
    entered = (both["holdout_before"] == 0) & (both["holdout_after"] == 1)
    return moved, sorted(both.loc[entered, "image_id"].astype(str))


def _flipped(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    keys = ["patient_id", "modality"]
    old, new = (table.drop_duplicates(keys)[[*keys, "target"]] for table in (before, after))
    both = old.merge(new, on=keys, suffixes=("_before", "_after"))
    both = both[both["target_before"] != both["target_after"]]
    classes = [[CLASS_NAMES[int(code)] for code in both[f"target_{side}"]] for side in ("before", "after")]
    names = zip(both["patient_id"], both["modality"], *classes, strict=True)
    return sorted(f"{patient} ({modality}): {old} -> {new}" for patient, modality, old, new in names)


def _shift(before: pd.DataFrame | None, after: pd.DataFrame | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, table in (("before", before), ("after", after)):
        if table is None:
            continue
        for modality, group in table.groupby("modality"):
            people = group.drop_duplicates("patient_id")
            rows.append({
                "revision": name,
                "modality": str(modality),
                "images": len(group),
                "patients": len(people),
                "osteoporosis_share": round(float(people["target"].mean()), 4),
                "female_share": round(float((people["sex"] == "F").mean()), 4),
                "age_mean_years": round(float(people["age_years"].mean()), 2),
                "age_sd_years": round(float(people["age_years"].std(ddof=1)), 2) if len(people) > 1 else None,
            })  # fmt: skip
    return rows
