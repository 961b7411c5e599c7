"""The class of every person of a revision, by the rules of the study."""

from __future__ import annotations

import pandas as pd

from osteo_models.data.changes import find_patient, list_images
from osteo_models.data.clinical import read_clinical
from osteo_models.data.cohort import CONTROL_RULES, STUDY_RULES
from osteo_models.data.history import Revision
from osteo_models.errors import TableError
from osteo_models.params import Cohort
from osteo_models.terms import CONTROL, MODALITIES, OSTEOPOROSIS

CLINICAL = "clinical.csv"
LABEL_COLUMNS = ("patient_id", "modality", "target", "age_years", "sex", "images")


def label_people(revision: Revision, cohort: Cohort) -> pd.DataFrame | None:
    """People with images who are in the study, one row for each modality.

    Unlike `select_people`, which makes a study, it takes any table, be a class empty or not.

    Args:
        revision: The revision.
        cohort: The rules, the same for all revisions: what changed is the data.

    Returns:
        The columns `LABEL_COLUMNS`; None where the revision has no clinical table that can be read, or nobody in it.

    Raises:
        StoreError: The table is not in the DVC cache.
    """
    if CLINICAL not in revision.files:
        return None
    try:
        people = read_clinical(revision.locate(CLINICAL))
    except TableError:
        return None
    if people.empty:
        return None
    counts = pd.Series([_owner(path) for path in list_images(revision)], dtype=object).value_counts()
    found: list[pd.DataFrame] = []
    for modality in MODALITIES:
        for target, source, rules in (
            (CONTROL, "control_candidate", CONTROL_RULES),
            (OSTEOPOROSIS, "dxa", STUDY_RULES),
        ):
            keep = people["source"] == source
            for rule in rules:
                keep &= rule.keep(people, cohort, modality)
            found.append(people[keep].assign(modality=modality, target=target))
    table = pd.concat(found)
    owners = list(zip(table["patient_id"], table["modality"], strict=True))
    table["images"] = [int(counts.get(owner, 0)) for owner in owners]
    return table.loc[table["images"] > 0, list(LABEL_COLUMNS)].reset_index(drop=True)


def _owner(path: str) -> tuple[str, str]:
    return find_patient(path), path.split("/")[-1].split("-")[0]
