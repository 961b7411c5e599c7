"""What changed between two revisions of the data set: people, labels, pixels, splits, distributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from osteo_models.core.errors import TableError
from osteo_models.core.params import Cohort
from osteo_models.core.terms import CLASS_NAMES, MODALITIES
from osteo_models.data.clinical import read_clinical
from osteo_models.data.data_folder import VERTEBRAE
from osteo_models.data.earlier_revisions import Revision, compare_images, find_patient, list_images
from osteo_models.data.selection import GROUPS

CLINICAL = "clinical.csv"
LABEL_COLUMNS = ("patient_id", "modality", "target", "age_years", "sex", "images")
ASSIGNMENTS = ("holdout", "patient_test", "fold_image", "fold_patient")


def label_people(revision: Revision, cohort: Cohort) -> pd.DataFrame | None:
    """People with images who are in the study, one row for each modality.

    Unlike `select_people`, it allows groups without people.

    Args:
        revision: The revision.
        cohort: The rules, the same for all revisions: only the data changes.

    Returns:
        The columns `LABEL_COLUMNS`; None where the revision has no readable clinical table.

    Raises:
        StoreError: The table is not in the DVC cache.
    """
    if CLINICAL not in revision.files:
        return None
    try:
        people = read_clinical(revision.locate(CLINICAL))
    except TableError:
        return None
    counts = pd.Series([_owner(path) for path in list_images(revision)], dtype=object).value_counts()
    groups: list[pd.DataFrame] = []
    for modality in MODALITIES:
        for target, source, rules in GROUPS:
            keep = people["source"] == source
            for rule in rules:
                keep &= rule.keep(people, cohort, modality)
            groups.append(people[keep].assign(modality=modality, target=target))
    table = pd.concat(groups)
    owners = list(zip(table["patient_id"], table["modality"], strict=True))
    table["images"] = [int(counts.get(owner, 0)) for owner in owners]
    return table.loc[table["images"] > 0, list(LABEL_COLUMNS)].reset_index(drop=True)


def _owner(path: str) -> tuple[str, str]:
    return find_patient(path), path.split("/")[-1].split("-")[0]


@dataclass(frozen=True)
class Difference:
    """Changes from one revision to another.

    Attributes:
        patients_added: Pseudonyms.
        labels_flipped: People in both whose class changed, or who came into or left the study: `ID (mri): from -> to`.
        pixels_changed: Images whose pixels differ, by their newer name.
        header_only: Images of which only the header differs, by their newer name.
        label_maps_changed: Label maps of vertebrae that were added, removed or changed.
        moved: Image ids whose value in a column of the splits changed, by column; empty if either splits are unknown.
        into_holdout: Those of them that moved into the hold-out.
        shift: Class, sex and age before and after, for each modality.
        people_touched: People of the earlier revision whose images or labels changed: models that saw them are stale.
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
    label_maps_changed: list[str]
    moved: dict[str, list[str]]
    into_holdout: list[str]
    tables_changed: list[str]
    shift: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    people_touched: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether the revisions hold the same data set."""
        return self.digest_before == self.digest_after

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)


def compare_revisions(before: Revision, after: Revision, cohort: Cohort) -> Difference:
    """Compare two revisions; only images whose bytes differ are read.

    Args:
        before: The earlier revision.
        after: The later one.
        cohort: The rules that say who has which class.

    Raises:
        StoreError: A changed file is not in the DVC cache.
    """
    images = compare_images(before, after)
    people_before, people_after = ({find_patient(path) for path in list_images(side)} for side in (before, after))
    labels = {side.name: label_people(side, cohort) for side in (before, after)}
    splits = {side.name: side.splits for side in (before, after)}
    old, new = labels[before.name], labels[after.name]
    flipped = {} if old is None or new is None else _flipped(old, new, people_before & people_after)
    moved: dict[str, list[str]] = {}
    into: list[str] = []
    if before.splits is not None and after.splits is not None:
        moved, into = _moved(before.splits, after.splits)
    changed = (*images.removed, *images.pixels)
    names = sorted(before.files.keys() | after.files.keys())
    changed_files = [name for name in names if before.files.get(name) != after.files.get(name)]
    return Difference(
        before=before.name,
        after=after.name,
        digest_before=before.digest,
        digest_after=after.digest,
        patients_added=sorted(people_after - people_before),
        patients_removed=sorted(people_before - people_after),
        images_added=images.added,
        images_removed=images.removed,
        labels_flipped=sorted(flipped),
        pixels_changed=images.pixels,
        header_only=images.header,
        label_maps_changed=[path for path in changed_files if path.startswith(f"{VERTEBRAE}/")],
        moved=moved,
        into_holdout=into,
        tables_changed=[path for path in changed_files if "/" not in path],
        shift=[row for side, table in (("before", old), ("after", new)) for row in _describe(side, table)],
        notes=[
            *_missing(labels, "labels", "it has no clinical.csv that can be read"),
            *_missing(splits, "places in the splits", "run `dvc repro splits` and commit dvc.lock"),
        ],
        people_touched=sorted({find_patient(path) for path in changed} | set(flipped.values())),
    )


def _missing(tables: Mapping[str, pd.DataFrame | None], what: str, why: str) -> list[str]:
    return [f"{what} of {name} are not known: {why}" for name, table in tables.items() if table is None]


def _moved(before: pd.DataFrame, after: pd.DataFrame) -> tuple[dict[str, list[str]], list[str]]:
    both = before.merge(after, on="image_id", suffixes=("_before", "_after"))
    moved: dict[str, list[str]] = {}
    for column in ASSIGNMENTS:
        old, new = (both[f"{column}_{side}"].astype("Int64").fillna(-1) for side in ("before", "after"))
        moved[column] = sorted(both.loc[(old != new).to_numpy(bool), "image_id"].astype(str))
    entered = (both["holdout_before"] == 0) & (both["holdout_after"] == 1)
    return moved, sorted(both.loc[entered, "image_id"].astype(str))


def _flipped(before: pd.DataFrame, after: pd.DataFrame, people: set[str]) -> dict[str, str]:
    """Patients whose class changed, by a line that describes the change."""
    old, new = (_classes(table, people) for table in (before, after))
    flipped: dict[str, str] = {}
    for patient, modality in old.keys() | new.keys():
        was, now = (classes.get((patient, modality), "not in the study") for classes in (old, new))
        if was != now:
            flipped[f"{patient} ({modality}): {was} -> {now}"] = patient
    return flipped


def _classes(table: pd.DataFrame, people: set[str]) -> dict[tuple[str, str], str]:
    rows = zip(table["patient_id"], table["modality"], table["target"], strict=True)
    return {(patient, modality): CLASS_NAMES[int(target)] for patient, modality, target in rows if patient in people}


def _describe(revision: str, table: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Class, sex and age of each modality's people."""
    if table is None:
        return []
    return [
        {
            "revision": revision,
            "modality": str(modality),
            "images": int(people["images"].sum()),
            "patients": len(people),
            "osteoporosis_share": round(float(people["target"].mean()), 4),
            "female_share": round(float((people["sex"] == "F").mean()), 4),
            "age_mean_years": round(float(people["age_years"].mean()), 2),
            "age_sd_years": round(float(people["age_years"].std(ddof=1)), 2) if len(people) > 1 else None,
        }
        for modality, people in table.groupby("modality")
    ]
