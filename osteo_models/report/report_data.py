"""What the report is made from: the files of artifacts/, and the figures that the paper printed.

Only the summary must be there. Any other file may be missing: its section then says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import pandas as pd
import yaml

from osteo_models.core.errors import InputError
from osteo_models.core.stage_table import StageTable
from osteo_models.evaluation.paper import FOLDER as PAPER

HERE: Final = Path(__file__).parent
SHOWN: Final = (
    *("summary", "chosen", "confusion", "roc", "calibration", "patients", "delong_unpaired"),
    *(
        "image_vs_patient",
        "table1",
        "table2",
        "table8",
        "table9",
        "table10",
        "table10_totals",
        "ledger",
        "ledger_sizes",
    ),
    *("duplicates", "duplicate_pairs", "shared", "shortcuts", "beyond", "groups", "modalities"),
)
Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Curve:
    """The learning curve of one job: fold, epoch, train_loss, test_loss, test_balanced_accuracy, seconds."""

    stage: str
    job: str
    source: str
    rows: Records


@dataclass(frozen=True)
class Search:
    """The architecture search: its candidates, what came out, and the winner's settings."""

    candidates: Records
    summary: dict[str, Any]
    best: dict[str, Any]


@dataclass(frozen=True)
class Explanations:
    """Cases with their maps, and how the maps change when a network is randomised: by model, then by method."""

    cases: Records
    sanity: dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """Everything read once. A table whose file is missing is empty; `missing` names the files."""

    artifacts: Path
    stages: StageTable
    tables: dict[str, Records]
    curves: list[Curve]
    jobs: list[dict[str, Any]]
    versions: list[dict[str, Any]]
    selection: dict[str, list[dict[str, Any]]]
    splits: Records
    images: Records
    search: Search
    explanations: Explanations
    missing: list[str]

    @property
    def summary(self) -> Records:
        return self.tables["summary"]


@dataclass(frozen=True)
class _Reader:
    """Reads files of one folder and notes what is missing and what cannot be read."""

    folder: Path
    missing: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def csv(self, name: str) -> Records:
        return self._read(name, read_rows, [])

    def json(self, name: str, empty: Any) -> Any:
        return self._read(name, lambda path: json.loads(path.read_text(encoding="utf-8")), empty)

    def yaml(self, name: str) -> dict[str, Any]:
        return self._read(name, lambda path: yaml.safe_load(path.read_text(encoding="utf-8")), {})

    def _read(self, name: str, reader: Callable[[Path], Any], empty: Any) -> Any:
        """The content of a file; `empty` where it is missing or faulty."""
        path = self.folder / name
        if not path.is_file():
            self.missing.append(name)
            return empty
        try:
            found = reader(path)
        except (ValueError, OSError, yaml.YAMLError) as error:  # pandas' parser errors and JSON's are ValueErrors
            self.faults.append(f"{name} cannot be read ({str(error).splitlines()[0][:100]})")
            return empty
        if isinstance(found, type(empty)):
            return found
        self.faults.append(f"{name} cannot be read (a {type(empty).__name__} was expected)")
        return empty


def read_evidence(artifacts: Path, stages: StageTable) -> Evidence:
    """Read artifacts/.

    Raises:
        InputError: No summary, a file that cannot be read (all such files are named), or figures of a stage that is not
            in the table.
    """
    if not (artifacts / "evaluation" / "summary.csv").is_file():
        raise InputError(
            "no evaluation/summary.csv", where=str(artifacts), remedy="evaluate first: `dvc repro evaluate`"
        )
    read = _Reader(artifacts)
    evidence = Evidence(
        artifacts=artifacts,
        stages=stages,
        tables={name: read.csv(f"evaluation/{name}.csv") for name in SHOWN},
        curves=[
            Curve(path.parent.name, path.stem, source, read.csv(source))
            for path in sorted(artifacts.glob("curves/*/*.csv"))
            for source in [path.relative_to(artifacts).as_posix()]
        ],
        jobs=read.json("jobs.json", []),
        versions=read.json("register.json", []),
        selection=read.json("cohort/selection.json", {}),
        splits=read.csv("splits/splits.csv"),
        images=read.csv("cohort/images.csv"),
        search=Search(
            read.csv("search/candidates.csv"), read.json("search/summary.json", {}), read.yaml("search/best.yaml")
        ),
        explanations=Explanations(read.csv("explain/cases.csv"), read.json("explain/sanity.json", {})),
        missing=read.missing,
    )
    if read.faults:
        remedy = "make these files again with `dvc repro -f`"
        raise InputError("; ".join(read.faults), where=str(artifacts), remedy=remedy)
    for stage in dict.fromkeys(str(row["stage"]) for row in evidence.summary):
        stages.find(stage)
    return evidence


def read_paper(name: str) -> Records:
    """Figures that the paper printed: stages (tables 3-7, 10), cohort, scores (8), delong (9), extremes (10), costs.

    Source: Kucukciloglu et al., Diagn Interv Radiol 2023, doi 10.4274/dir.2023.232116.
    """
    return read_rows(PAPER / f"{name}.csv")


def read_paper_stages(stages: StageTable) -> Records:
    """The printed figures of the tables that a stage repeats, with that `stage`."""
    known = {row.paper_table: row.name for row in stages}
    return [{**row, "stage": known[row["table"]]} for row in read_paper("stages") if row["table"] in known]


def read_rows(path: Path) -> Records:
    """The rows of a CSV file by column name; an empty cell is NaN."""
    # a pseudonym may look like a number, or like "NA"
    table = pd.read_csv(path, dtype={"patient_id": str, "image_id": str}, keep_default_na=False, na_values=[""])
    return cast(Records, table.to_dict("records"))


@dataclass(frozen=True)
class Facts:
    """About the run as a whole.

    Attributes:
        provenance: Commit, data hash, versions of packages.
        params: params.yaml as it was used.
        left_out: What the profile leaves out of the paper's protocol.
        seconds: By section, in the order of building; filled while the page is made.
    """

    provenance: dict[str, str]
    params: Mapping[str, Any]
    synthetic: bool
    left_out: list[str]
    seconds: dict[str, float]

    @property
    def profile(self) -> str:
        return str(self.params.get("profile", ""))

    def param(self, path: str) -> Any:
        """A value of params.yaml by its dotted name; None where it is not given."""
        value: Any = self.params
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


def flatten_params(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values, such as ("experiments.epochs", "20")."""
    for name, value in params.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flatten_params(value, f"{path}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value):
                nested = item if isinstance(item, Mapping) else {"value": item}
                yield from flatten_params(nested, f"{path}[{number}].")
        elif isinstance(value, (list, tuple)):
            yield path, ", ".join(str(item) for item in value)
        else:
            yield path, "–" if value is None else str(value)
