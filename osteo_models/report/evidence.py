"""What the report is made from: the files of artifacts/, and the paper's printed figures that ship beside this module.

Only the summary must be there. Any other file may be missing: its section then says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd

from osteo_models.errors import InputError
from osteo_models.evaluation.stages import COLUMNS

HERE = Path(__file__).parent
Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Curve:
    """The learning curve of one job: fold, epoch, train_loss, test_loss, test_balanced_accuracy."""

    stage: str
    job: str
    source: str
    rows: Records


@dataclass(frozen=True)
class Evidence:
    """Everything read once. A table whose file is missing is empty; `missing` names the files."""

    artifacts: Path
    tables: dict[str, Records]
    curves: list[Curve]
    jobs: list[dict[str, Any]]
    versions: list[dict[str, Any]]
    selection: dict[str, list[dict[str, Any]]]
    splits: Records
    images: Records
    missing: list[str]

    @property
    def summary(self) -> Records:
        return self.tables["summary"]


def read_evidence(artifacts: Path) -> Evidence:
    """Read artifacts/.

    Raises:
        InputError: No summary, or a file that cannot be read (all such files are named).
    """
    if not (artifacts / "evaluation" / "summary.csv").is_file():
        raise InputError(
            "no evaluation/summary.csv", where=str(artifacts), remedy="evaluate first: `dvc repro evaluate`"
        )
    missing: list[str] = []
    faults: list[str] = []

    def read_csv(name: str) -> Records:
        return _read(artifacts, name, read_rows, [], missing, faults)

    def read_json(name: str, empty: Any) -> Any:
        return _read(artifacts, name, lambda path: json.loads(path.read_text(encoding="utf-8")), empty, missing, faults)

    evidence = Evidence(
        artifacts=artifacts,
        tables={name: read_csv(f"evaluation/{name}.csv") for name in COLUMNS},
        curves=[
            Curve(path.parent.name, path.stem, source, read_csv(source))
            for path in sorted(artifacts.glob("curves/*/*.csv"))
            for source in [path.relative_to(artifacts).as_posix()]
        ],
        jobs=read_json("jobs.json", []),
        versions=read_json("register.json", []),
        selection=read_json("cohort/selection.json", {}),
        splits=read_csv("splits/splits.csv"),
        images=read_csv("cohort/images.csv"),
        missing=missing,
    )
    if faults:
        raise InputError("; ".join(faults), where=str(artifacts), remedy="make these files again with `dvc repro -f`")
    return evidence


def _read(artifacts: Path, name: str, reader: Any, empty: Any, missing: list[str], faults: list[str]) -> Any:
    """The content of a file; `empty` where it is missing or faulty, which the lists then tell."""
    path = artifacts / name
    if not path.is_file():
        missing.append(name)
        return empty
    try:
        return reader(path)
    except (ValueError, OSError) as error:  # pandas' parser errors and JSON's are ValueErrors
        faults.append(f"{name} cannot be read ({str(error).splitlines()[0][:100]})")
        return empty


def read_paper(name: str) -> Records:
    """Figures that the paper printed: stages (tables 3-7, 10), cohort, scores (8), delong (9), extremes (10), costs.

    Source: Kucukciloglu et al., Diagn Interv Radiol 2023, doi 10.4274/dir.2023.232116.
    """
    return read_rows(HERE / f"paper_{name}.csv")


def read_rows(path: Path) -> Records:
    """The rows of a CSV file by column name; an empty cell is NaN."""
    # a pseudonym may look like a number, or like "NA"
    table = pd.read_csv(path, dtype={"patient_id": str, "image_id": str}, keep_default_na=False, na_values=[""])
    return cast(Records, table.to_dict("records"))
