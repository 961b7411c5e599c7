"""The proof that a split does not leak; every reader of splits.csv runs it."""

from __future__ import annotations

import pandas as pd

from osteo_models.errors import SplitError


def check_splits(table: pd.DataFrame) -> None:
    """Prove that no patient stands on two sides where the protocol forbids it.

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
