"""The stages' tables: ours under both protocols, the paper's figures beside them, and what was not run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from osteo_models.report.evidence import Evidence, Records, read_paper
from osteo_models.report.wording import (
    ARCHITECTURES,
    IMAGES,
    METRICS,
    PAPER_TABLE,
    STAGES,
    UNDEFINED,
    is_number,
    name_network,
    write_interval,
    write_metric,
)
from osteo_models.terms import IMAGE_SETS, Stage

Kind = Literal["patient", "part", "image", "paper"]
Key = tuple[str, str, str, str, str, str]  # stage, architecture, images, protocol, subset, level
Index = dict[Key, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Cell:
    """A figure with its interval; `mark` points to a footnote."""

    value: str
    interval: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """One set of results."""

    kind: Kind
    label: str
    cells: list[Cell]
    n: float
    n_patients: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Network:
    """One network on one image set, with its rows."""

    title: str
    rows: list[Row]

    @property
    def sources(self) -> list[str]:
        """The predictions files behind the rows, each once."""
        return list(dict.fromkeys(row.source for row in self.rows if row.source))


@dataclass(frozen=True)
class StageTable:
    """One experiment of the paper."""

    stage: Stage
    title: str
    paper_table: int
    networks: list[Network]
    has_folds: bool


def index_summary(summary: Records) -> Index:
    """The summary's rows by job, subset and level, then by metric."""
    found: Index = {}
    for record in summary:
        stage, architecture, images = record["stage"], record["architecture"], record["images"]
        key = (stage, architecture, images, record["protocol"], record["subset"], record["level"])
        found.setdefault(key, {})[record["metric"]] = record
    return found


def build_stage_tables(evidence: Evidence) -> list[StageTable]:
    """All six stages, those without results too."""
    ours, paper = index_summary(evidence.summary), read_paper("stages")
    tables: list[StageTable] = []
    for stage, title in STAGES.items():
        printed = {(row["architecture"], row["images"]): row for row in paper if row["stage"] == stage}
        wanted = set(printed) | {(key[1], key[2]) for key in ours if key[0] == stage}
        networks = [
            Network(
                name_network(architecture, images),
                list(_network_rows(ours, stage, architecture, images, printed.get((architecture, images)))),
            )
            for architecture, images in sorted(wanted, key=order_networks)
        ]
        tables.append(StageTable(stage, title, PAPER_TABLE[stage], networks, PAPER_TABLE[stage] < 7))
    return tables


def order_networks(network: tuple[str, str]) -> tuple[int, int, str]:
    """Sort key of (architecture, images): by image set, the proposed network first."""
    known = list(ARCHITECTURES)
    architecture, images = network
    place = known.index(architecture) if architecture in known else len(known)
    return (IMAGE_SETS.index(images) if images in IMAGE_SETS else 9, place, architecture)


def sort_jobs(rows: Records) -> Records:
    """Rows of jobs by image set, the proposed network first."""
    return sorted(rows, key=lambda row: order_networks((row["architecture"], row["images"])))


def _network_rows(ours: Index, stage: str, architecture: str, images: str, printed: Any) -> Iterator[Row]:
    folds = stage in ("stage-1", "stage-2", "stage-3", "stage-4")
    patient = ours.get((stage, architecture, images, "patient", "all", "image"))
    image = ours.get((stage, architecture, images, "image", "all", "image"))
    if patient:
        yield _own_row("patient", "Patient folds" if folds else "Ours", patient)
        for subset in ("mri", "ct"):
            part = ours.get((stage, architecture, images, "patient", subset, "image"))
            if part:
                yield _own_row("part", f"of these, {IMAGES[subset]} images", part)
    if image:
        yield _own_row("image", "Image folds", image)
    if printed is not None:
        yield _paper_row(printed)


def _own_row(kind: Kind, label: str, metrics: dict[str, dict[str, Any]]) -> Row:
    cells = [
        Cell(
            write_metric(name, metrics[name]["value"]),
            write_interval(name, metrics[name]["ci_low"], metrics[name]["ci_high"]) or UNDEFINED,
            "†" if metrics[name]["interval"] == "wilson_patients" else "",
        )
        for name in METRICS
    ]
    any_metric = metrics["accuracy"]
    return Row(kind, label, cells, any_metric["n"], any_metric["n_patients"], str(any_metric["source"]))


def _paper_row(printed: dict[Any, Any]) -> Row:
    """The figures as printed: no rounding, no mending."""
    cells: list[Cell] = []
    for name in METRICS:
        value = printed.get(name)
        if not is_number(value):
            cells.append(Cell("–"))
            continue
        low, high = printed.get(f"{name}_lo"), printed.get(f"{name}_hi")
        interval = f"{low:.1f}–{high:.1f}" if is_number(low) and is_number(high) else ""
        cells.append(Cell(f"{value:.3f}" if name == "roc_auc_hard" and float(value) <= 1 else f"{value:.2f}", interval))
    return Row("paper", "Paper, as printed", cells, printed["n"])


@dataclass(frozen=True)
class PatientLevel:
    """Each patient once, with the mean score of the images."""

    stage: str
    network: str
    balanced_accuracy: Cell
    roc_auc: Cell
    n_patients: float
    source: str


def build_patient_levels(evidence: Evidence) -> list[PatientLevel]:
    """The patient protocol's jobs at the patient level."""
    found: list[PatientLevel] = []
    for (stage, architecture, images, protocol, _, level), metrics in sorted(
        index_summary(evidence.summary).items(), key=lambda item: (item[0][0], order_networks((item[0][1], item[0][2])))
    ):
        if (protocol, level) == ("patient", "patient"):
            row = _own_row("patient", "", metrics)
            cells = dict(zip(METRICS, row.cells, strict=True))
            name = name_network(architecture, images)
            found.append(
                PatientLevel(stage, name, cells["balanced_accuracy"], cells["roc_auc"], row.n_patients or 0, row.source)
            )
    return found
