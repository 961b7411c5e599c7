"""Performance by sex, age band, scanner and modality, with "too few" in plain sight; and with one modality only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from osteo_models.core.terms import stage_number
from osteo_models.report.html_table import (
    Cell,
    Column,
    Group,
    Row,
    Table,
    count,
    estimate,
    make_table,
    measure,
    source,
    word,
)
from osteo_models.report.report_data import Records
from osteo_models.report.sections.stages import order_networks
from osteo_models.report.wording import METRICS, PROPOSED, name_network

KINDS: Final = ("sex", "age", "scanner", "modality")
SHOWN: Final = ("balanced_accuracy", "sensitivity", "specificity", "roc_auc")
USES: Final = {
    "mri": "MRI alone",
    "ct": "CT alone",
    "pooled": "both, each image by itself",
    "pairs": "both, mean of a pair",
}


def build_groups(rows: Records, stages: Sequence[str], name: str) -> Table:
    """The proposed networks in some stages, whole patients left out: a row for each group of patients."""
    jobs: dict[tuple[str, str, str], dict[tuple[str, str], dict[str, dict[str, Any]]]] = {}
    for row in rows:
        if row["architecture"] in PROPOSED and row["stage"] in stages:
            groups = jobs.setdefault((row["stage"], row["architecture"], row["images"]), {})
            groups.setdefault((str(row["by"]), str(row["group"])), {})[row["metric"]] = row
    found = []
    for (stage, architecture, images), groups in sorted(
        jobs.items(), key=lambda item: (item[0][0], order_networks(item[0][1:]))
    ):
        first = next(iter(next(iter(groups.values())).values()))
        lines = [_group_row(by, group, groups[by, group]) for by, group in sorted(groups, key=_order_group)]
        found.append(
            Group(f"{name_network(architecture, images)}, stage {stage_number(stage)}", lines, [first["source"]])
        )
    columns = [
        Column("Group"),
        Column("By", text=True),
        *(Column(METRICS[metric]) for metric in SHOWN),
        Column("Images"),
        Column("Patients"),
        Column("Note", text=True),
    ]
    caption = "Groups of patients. Where there are too few, no figure is given."
    return Table(name, caption, columns, found, ["evaluation/groups.csv"])


def _order_group(group: tuple[str, str]) -> tuple[int, bool, str]:
    """Sex, age from the youngest on, scanner, modality."""
    by, name = group
    return (KINDS.index(by) if by in KINDS else len(KINDS), not name.startswith("under"), name)


def _group_row(by: str, group: str, metrics: dict[str, dict[str, Any]]) -> Row:
    first = next(iter(metrics.values()))
    note = first["note"] if isinstance(first["note"], str) and first["note"] else ""
    cells = [word(_name_group(by, group)), word(by)]
    for name in SHOWN:
        one = metrics.get(name, {})
        cell = estimate(name, one)
        cells.append(Cell("–") if note and cell.key is None else cell)
    return Row([*cells, count(first["n"]), count(first["n_patients"]), word(note, kind="missing" if note else "")])


def _name_group(by: str, group: str) -> str:
    if by == "age":
        years = group.replace("-", "–")
        return years.replace(" and", " years and") if " and" in years else f"{years} years"
    return {"F": "women", "M": "men", "mri": "MRI images", "ct": "CT images"}.get(group, group)


def build_modalities(rows: Records) -> Table:
    """The multimodal network with MRI only, CT only and both."""
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        key = (row["stage"], row["architecture"], row["images"], row["protocol"], row["use"])
        found.setdefault(key, {})[row["metric"]] = row
    lines = []
    for (stage, architecture, images, protocol, use), metrics in found.items():
        first = next(iter(metrics.values()))
        cells = [
            word(USES.get(use, use)),
            word(name_network(architecture, images)),
            word(stage_number(stage)),
            word(protocol),
        ]
        for name in ("balanced_accuracy", "sensitivity", "specificity", "roc_auc", "brier"):
            one = metrics.get(name, {})
            cells.append(measure(name, one.get("value"), one.get("ci_low"), one.get("ci_high")))
        lines.append(
            [*cells, count(first["n"]), count(first["n_patients"]), word(first["note"]), source(first["source"])]
        )
    names = ("balanced_accuracy", "sensitivity", "specificity", "roc_auc", "brier")
    columns = (
        *("With", "<Network", "<Stage", "<Protocol", *(METRICS[name] for name in names)),
        *("n", "Patients", "<Note", "<Predictions"),
    )
    return make_table("modalities", "The multimodal network with MRI only, CT only, and both.", columns, lines)
