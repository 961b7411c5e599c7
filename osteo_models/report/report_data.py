"""What the page is made from: the files of artifacts/, read once, and facts about the run.

Only the summary must exist. A section whose file is missing says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

import pandas as pd
import yaml

from osteo_models.core.errors import InputError
from osteo_models.core.stage_table import StageTable
from osteo_models.evaluation.paper import FOLDER as PAPER

SHOWN: Final = (
    *("summary", "chosen", "confusion", "roc", "calibration", "patients", "delong_unpaired", "image_vs_patient"),
    *("table1", "table2", "table8", "table9", "table10", "table10_totals", "ledger", "ledger_sizes"),
    *("duplicates", "duplicate_pairs", "shared", "shortcuts", "beyond", "groups", "modalities"),
)
Records = list[dict[str, Any]]
Key = tuple[str, str, str, str, str, str]  # stage, architecture, images, protocol, subset, level
Index = dict[Key, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Run:
    """Facts about the run as a whole.

    Attributes:
        provenance: Commit, data hash, versions of packages.
        params: params.yaml as it was used.
        left_out: What the profile leaves out of the paper's protocol.
    """

    provenance: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    synthetic: bool = False
    left_out: list[str] = field(default_factory=list)

    def param(self, path: str) -> Any:
        """A value of params.yaml by its dotted name; None when it is not given."""
        value: Any = self.params
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


@dataclass(frozen=True)
class Curve:
    """The learning curve of one job: fold, epoch, train_loss, test_loss, test_balanced_accuracy, seconds."""

    stage: str
    job: str
    source: str
    rows: Records


@dataclass(frozen=True)
class ReportData:
    """The artifacts. A table whose file is missing is empty, and `missing` names the file.

    Attributes:
        explained: The images with explanation maps.
        sanity: Similarity of maps to those of a randomised network, by model and method.
        seconds: Build time by section, filled while the page is made.
    """

    artifacts: Path
    stages: StageTable
    run: Run
    tables: dict[str, Records]
    curves: list[Curve]
    jobs: Records
    versions: Records
    selection: dict[str, Records]
    splits: Records
    images: Records
    candidates: Records
    search: dict[str, Any]
    best: dict[str, Any]
    explained: Records
    sanity: dict[str, Any]
    missing: list[str]
    seconds: dict[str, float]

    @property
    def summary(self) -> Records:
        """The rows of summary.csv."""
        return self.tables["summary"]

    @cached_property
    def index(self) -> Index:
        """The summary's rows by job, subset and level, then by metric."""
        index: Index = {}
        for row in self.summary:
            stage, architecture, images = row["stage"], row["architecture"], row["images"]
            key = (stage, architecture, images, row["protocol"], row["subset"], row["level"])
            index.setdefault(key, {})[row["metric"]] = row
        return index

    def find_metrics(self, stage: str, architecture: str, images: str, protocol: str) -> dict[str, dict[str, Any]]:
        """The metrics of a job over all its images; empty when it was not run."""
        return self.index.get((stage, architecture, images, protocol, "all", "image"), {})


@dataclass(frozen=True)
class _Reader:
    """Reads files of one folder; lists the missing and the unreadable ones."""

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
        """The content of a file; `empty` when it is missing or cannot be read."""
        path = self.folder / name
        if not path.is_file():
            self.missing.append(name)
            return empty
        try:
            content = reader(path)
        except (ValueError, OSError, yaml.YAMLError) as error:  # pandas' parser errors and JSON's are ValueErrors
            self.faults.append(f"{name} cannot be read ({str(error).splitlines()[0][:100]})")
            return empty
        if isinstance(content, type(empty)):
            return content
        self.faults.append(f"{name} cannot be read (a {type(empty).__name__} was expected)")
        return empty


def read_report_data(artifacts: Path, stages: StageTable, run: Run, versions: Records | None = None) -> ReportData:
    """Read artifacts/.

    Args:
        versions: Registered versions with their current aliases; None takes those of register.json.

    Raises:
        InputError: No summary, files that cannot be read (all of them are named), or a stage that is not in the table.
    """
    if not (artifacts / "evaluation" / "summary.csv").is_file():
        raise InputError(
            "no evaluation/summary.csv", where=str(artifacts), remedy="evaluate first: `dvc repro evaluate`"
        )
    read = _Reader(artifacts)
    registered = read.json("register.json", [])
    data = ReportData(
        artifacts=artifacts,
        stages=stages,
        run=run,
        tables={name: read.csv(f"evaluation/{name}.csv") for name in SHOWN},
        curves=[
            Curve(path.parent.name, path.stem, source, read.csv(source))
            for path in sorted(artifacts.glob("curves/*/*.csv"))
            for source in [path.relative_to(artifacts).as_posix()]
        ],
        jobs=read.json("jobs.json", []),
        versions=registered if versions is None else versions,
        selection=read.json("cohort/selection.json", {}),
        splits=read.csv("splits/splits.csv"),
        images=read.csv("cohort/images.csv"),
        candidates=read.csv("search/candidates.csv"),
        search=read.json("search/summary.json", {}),
        best=read.yaml("search/best.yaml"),
        explained=read.csv("explain/cases.csv"),
        sanity=read.json("explain/sanity.json", {}),
        missing=read.missing,
        seconds={},
    )
    if read.faults:
        remedy = "make these files again with `dvc repro -f`"
        raise InputError("; ".join(read.faults), where=str(artifacts), remedy=remedy)
    for stage in dict.fromkeys(str(row["stage"]) for row in data.summary):
        stages.find(stage)
    return data


def read_paper(name: str) -> Records:
    """Figures that the paper printed, as numbers; `osteo_models.evaluation.paper` lists the tables."""
    return read_rows(PAPER / f"{name}.csv")


def read_paper_stages(stages: StageTable) -> Records:
    """The printed figures of the tables that a stage repeats, with that `stage`."""
    stage_by_table = {row.paper_table: row.name for row in stages}
    return [
        {**row, "stage": stage_by_table[row["table"]]} for row in read_paper("stages") if row["table"] in stage_by_table
    ]


def read_rows(path: Path) -> Records:
    """The rows of a CSV file by column name; an empty cell is NaN."""
    # a pseudonym may look like a number, or like "NA"
    table = pd.read_csv(path, dtype={"patient_id": str, "image_id": str}, keep_default_na=False, na_values=[""])
    return cast(Records, table.to_dict("records"))


def gather_metrics(rows: Records, *fields: str) -> Records:
    """One record per combination of `fields`: its first row, with all its rows by metric under "metrics"."""
    records: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        record = records.setdefault(tuple(row[name] for name in fields), {**row, "metrics": {}})
        record["metrics"][row["metric"]] = row
    return list(records.values())


def flatten_params(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values, such as ("experiments.epochs", "20")."""
    for name, value in params.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flatten_params(value, f"{path}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(entry, Mapping) for entry in value):
            for number, entry in enumerate(value):
                nested = entry if isinstance(entry, Mapping) else {"value": entry}
                yield from flatten_params(nested, f"{path}[{number}].")
        elif isinstance(value, (list, tuple)):
            yield path, ", ".join(str(entry) for entry in value)
        else:
            yield path, "–" if value is None else str(value)
