"""Who is trained on and who is tested: hold-out, patient-based test set, and folds per image and per patient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from osteo_models.core.errors import SplitError
from osteo_models.core.params import Holdout, PatientTest, Splits
from osteo_models.core.terms import CLASS_NAMES, CONTROL, MODALITIES, OSTEOPOROSIS, Modality
from osteo_models.data.data_folder import IMAGES
from osteo_models.data.tables import read_frame

PREVIOUS_SPLITS = "splits.csv"  # in the data set: the splits of the revision before, written when it grows or shrinks
SPLIT_COLUMNS = (
    *("image_id", "patient_id", "modality", "target", "age_years", "sex"),
    *("holdout", "patient_test", "fold_image", "fold_patient"),
)


def check_splits(table: pd.DataFrame) -> None:
    """Check that no patient is on two sides of a split where the protocol forbids it.

    Raises:
        SplitError: Naming the patients, for every split that leaks.
    """
    faults: list[str] = []
    for column in ("holdout", "patient_test", "fold_patient"):
        sides = table.groupby("patient_id")[column].nunique(dropna=False)
        if leaking := sorted(sides.index[sides > 1].astype(str)):
            more = f" and {len(leaking) - 10} more" if len(leaking) > 10 else ""
            faults.append(f"{column}: {', '.join(leaking[:10])}{more}")
    both = table[(table["holdout"] == 1) & ((table["patient_test"] == 1) | table["fold_image"].notna())]
    if len(both):
        names = sorted(both["patient_id"].astype(str).unique())
        faults.append(f"hold-out and development: {', '.join(names[:10])}")
    if faults:
        found = "patients on two sides: " + "; ".join(faults)
        raise SplitError(found, where="splits.csv", remedy="make the splits again with `dvc repro splits`")


def find_subset(sizes: Sequence[int], wanted: int) -> list[int]:
    """Indexes whose sizes add up to `wanted`, or to the largest sum below it; empty when none fits.

    Earlier indexes are preferred, so that a shuffled list gives a random, reproducible choice.
    """
    reached: dict[int, tuple[int, ...]] = {0: ()}
    for index, size in enumerate(sizes):
        for total, chosen in list(reached.items()):
            if total + size <= wanted and total + size not in reached:
                reached[total + size] = (*chosen, index)
        if wanted in reached:
            break
    return list(reached[max(reached)])


def find_subset_of_bins(bins: Sequence[Sequence[int]], wanted: int) -> list[int]:
    """One index from each bin, the sizes adding up as near to `wanted` as can be (exactly, where possible).

    Returns:
        The position chosen in each bin, as many as there are bins.
    """
    reached: dict[int, tuple[int, ...]] = {0: ()}
    for sizes in bins:
        step: dict[int, tuple[int, ...]] = {}
        for total, chosen in reached.items():
            for position, size in enumerate(sizes):
                step.setdefault(total + size, (*chosen, position))
        reached = step
    nearest = min(reached, key=lambda total: (abs(total - wanted), total))
    return list(reached[nearest])


def make_splits(images: pd.DataFrame, splits: Splits) -> pd.DataFrame:
    """Assign every image to its side of every split.

    Args:
        images: image_id, patient_id, modality, target, age_years, sex; one row per image.
        splits: The section of params.yaml.

    Returns:
        The columns `SPLIT_COLUMNS`, in the order of `images`. `holdout` images are never trained on and carry no
        fold; `patient_test` images are left out of training only in the stages that test on them. `fold_image` draws
        images at random (the paper's protocol: slices of a patient fall on both sides), `fold_patient` keeps a patient
        together; both are stratified by modality and class.

    Raises:
        SplitError: Too few patients for a test set or for the folds.
    """
    table = images[["image_id", "patient_id", "modality", "target", "age_years", "sex"]].copy()
    rng = np.random.default_rng(splits.seed)
    holdout: set[str] = set()
    patient_test: set[str] = set()
    for modality, wanted in splits.holdout.items():
        for target in (CONTROL, OSTEOPOROSIS):
            holdout |= _pick_holdout(_patients(table, modality, target), wanted, modality, target, rng)
    left = table[~table["patient_id"].isin(holdout)]
    for modality, wanted in splits.patient_test.items():
        for target in (CONTROL, OSTEOPOROSIS):
            patient_test |= _pick_patient_test(_patients(left, modality, target), wanted, modality, target, rng)
    table["holdout"] = table["patient_id"].isin(holdout).astype(int)
    table["patient_test"] = table["patient_id"].isin(patient_test).astype(int)
    _deal_folds(table, splits)
    return table[list(SPLIT_COLUMNS)]


def _patients(table: pd.DataFrame, modality: Modality, target: int) -> pd.DataFrame:
    """One row per patient of a group: patient_id, age_years, n images; ordered by age, then id."""
    group = table[(table["modality"] == modality) & (table["target"] == target)]
    patients = group.groupby("patient_id").agg(age_years=("age_years", "first"), n=("image_id", "size")).reset_index()
    return patients.sort_values(["age_years", "patient_id"]).reset_index(drop=True)


def _pick_holdout(
    patients: pd.DataFrame, wanted: Holdout, modality: Modality, target: int, rng: np.random.Generator
) -> set[str]:
    ages = wanted.control_age_years if target == CONTROL else wanted.osteoporosis_age_years
    band = patients[patients["age_years"].between(*ages)]
    band = band.iloc[rng.permutation(len(band))]
    chosen = find_subset(band["n"].tolist(), wanted.images_per_class)
    if not chosen:
        found = f"no {modality} {CLASS_NAMES[target]} patients aged {ages[0]}-{ages[1]} with at most "
        raise SplitError(
            f"{found}{wanted.images_per_class} images",
            where=f"splits.holdout.{modality}",
            remedy="widen the ages or raise images_per_class in params.yaml",
        )
    return set(band["patient_id"].iloc[chosen])


def _pick_patient_test(
    patients: pd.DataFrame, wanted: PatientTest, modality: Modality, target: int, rng: np.random.Generator
) -> set[str]:
    count = wanted.control_patients if target == CONTROL else wanted.osteoporosis_patients
    if len(patients) < 2 * count:
        raise SplitError(
            f"{len(patients)} {modality} {CLASS_NAMES[target]} patients are left, {count} are wanted for testing",
            where=f"splits.patient_test.{modality}",
            allowed="at most half of them",
            remedy="lower the number of patients in params.yaml",
        )
    # One patient from each of `count` bins of age, so that the set spans the ages.
    bins = [part[rng.permutation(len(part))].tolist() for part in np.array_split(np.arange(len(patients)), count)]
    sizes = [[int(patients["n"].iloc[row]) for row in part] for part in bins]
    picks = find_subset_of_bins(sizes, wanted.images_per_class)
    return {str(patients["patient_id"].iloc[part[pick]]) for part, pick in zip(bins, picks, strict=True)}


def _deal_folds(table: pd.DataFrame, splits: Splits) -> None:
    development = table[table["holdout"] == 0]
    strata = development["modality"] + development["target"].astype(str)
    fewest = development.groupby(strata)["patient_id"].nunique()
    if fewest.min() < splits.folds:
        raise SplitError(
            f"group {fewest.idxmin()} has {fewest.min()} patients", where="splits.folds", allowed=f">= {splits.folds}"
        )
    by_image = StratifiedKFold(splits.folds, shuffle=True, random_state=splits.seed)
    by_patient = StratifiedGroupKFold(splits.folds, shuffle=True, random_state=splits.seed)
    dealt = {
        "fold_image": by_image.split(strata, strata),
        "fold_patient": by_patient.split(strata, strata, groups=development["patient_id"]),
    }
    for column, folds in dealt.items():
        table[column] = pd.Series(pd.NA, index=table.index, dtype="Int64")
        for fold, (_, test) in enumerate(folds):
            table.loc[development.index[test], column] = fold


def extend_splits(images: pd.DataFrame, splits: Splits, previous: pd.DataFrame) -> pd.DataFrame:
    """Splits of a data set that has grown or shrunk: known patients keep their side, new ones go to the folds.

    Test sets lose only withdrawn patients. New patients go, in the order of identifiers, to the fold
    that has the fewest images of their modality and class; new images of the image protocol too, one by one.

    Args:
        images: As for `make_splits`.
        splits: The section of params.yaml.
        previous: The splits of the revision before, as `make_splits` gave them.

    Returns:
        As `make_splits`.

    Raises:
        SplitError: The kept splits have other folds than params.yaml asks for.
    """
    folds = sorted(int(fold) for fold in previous["fold_patient"].dropna().unique())
    if folds != list(range(splits.folds)):
        raise SplitError(
            f"the kept splits have the folds {folds}",
            where="splits.csv of the data set",
            allowed=f"0 to {splits.folds - 1}",
            remedy="set splits.folds back, or delete the file to split all patients again",
        )
    table = images[["image_id", "patient_id", "modality", "target", "age_years", "sex"]].copy()
    people = previous.drop_duplicates("patient_id").set_index("patient_id")
    for column in ("holdout", "patient_test"):
        table[column] = table["patient_id"].map(people[column]).fillna(0).astype(int)
    table["fold_patient"] = table["patient_id"].map(people["fold_patient"]).astype("Int64")
    table["fold_image"] = table["image_id"].map(previous.set_index("image_id")["fold_image"]).astype("Int64")
    development = table["holdout"] == 0
    for (_, _), group in table[development].groupby(["modality", "target"], sort=True):
        _fill_folds(table, group, "fold_patient", "patient_id", splits.folds)
        _fill_folds(table, group, "fold_image", "image_id", splits.folds)
    return table[list(SPLIT_COLUMNS)]


def save_splits(table: Path, data: Path) -> None:
    """Write the latest splits into a data set that has grown or shrunk, so that no patient changes sides.

    Args:
        table: splits.csv as the `splits` stage wrote it; it may not exist, or be of another data set.
        data: The successor of the data set, while it is built.
    """
    if not table.exists():
        return
    splits = read_frame(table)
    patients = {path.name for path in (data / IMAGES).iterdir()} if (data / IMAGES).is_dir() else set()
    splits = splits[splits["patient_id"].isin(patients)]
    if not splits.empty:
        (data / PREVIOUS_SPLITS).unlink(missing_ok=True)  # it may be a link to the file of the data set
        splits.to_csv(data / PREVIOUS_SPLITS, index=False)


def _fill_folds(table: pd.DataFrame, group: pd.DataFrame, column: str, unit: str, folds: int) -> None:
    """Give the units of a group that have no fold the one with the fewest images of the group."""
    counts = group[column].value_counts().reindex(range(folds), fill_value=0).astype(int)
    for name, rows in group[group[column].isna()].groupby(unit, sort=True):
        known = table.loc[table[unit] == name, column].dropna()  # a person with both modalities has one fold
        fold = int(known.iloc[0]) if len(known) else int(str(counts.idxmin()))
        table.loc[rows.index, column] = fold
        counts[fold] += len(rows)


def count_splits(table: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, int]:
    """The counts that the paper prints (section Experiments, table 2), flat for `dvc metrics`."""
    development = table[table["holdout"] == 0]
    counts = {f"{name}.development.images": int((development["modality"] == name).sum()) for name in MODALITIES}
    counts["combined.development.images"] = len(development)
    for name in ("holdout", "patient_test"):
        part = table[table[name] == 1]
        counts[f"{name}.images"] = len(part)
        counts[f"{name}.patients"] = int(part["patient_id"].nunique())
    for split, group in pairs.groupby("split"):
        counts[f"pairs.{split}"] = len(group)
    return counts
