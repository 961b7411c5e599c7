"""Registered versions with the figures that a promotion looks at, and what each rule of the gate found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import VALIDATIONS, Stage, find_stages, metric_prefix
from osteo_models.report.html_table import Cell, Column, Group, Row, Table, make_table, word
from osteo_models.report.report_data import Evidence, Facts, Records
from osteo_models.report.wording import is_number, name_stages, write_interval, write_metric


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    return {"table": build_versions(evidence.versions, evidence.stages), "rules": build_rules(evidence.versions)}


def build_versions(versions: Records, stages: StageTable) -> Table:
    """A row for each version."""
    rows = []
    for version in versions:
        metrics = version.get("metrics") or {}
        verdict = str(version.get("verdict") or "")
        rows.append(
            [
                word(version["name"], kind="code"),
                Cell(str(version["version"]), key=float(version["version"])),
                word(version.get("alias")),
                word(verdict, kind=f"verdict {verdict}"),
                *(_figure(metrics, stages.select(validation)) for validation in VALIDATIONS),
                word(", ".join(_took_part(metrics)), kind="words"),
            ]
        )
    columns = (
        *("Model", "Version", "<Alias", "<Verdict of the gate", "Folds, patients left out, %", "Hold-out, %"),
        *("Patient-based test, %", "<Figures from"),
    )
    return make_table("versions-table", "Balanced accuracy of the registered versions.", columns, rows)


def _took_part(metrics: dict[str, Any]) -> list[str]:
    return [name_stages([stage]) for stage in find_stages(metrics)]


def _figure(metrics: dict[str, Any], stages: Sequence[Stage]) -> Cell:
    """Balanced accuracy in the first of these stages that the version took part in."""
    names = [f"{metric_prefix(stage, 'patient')}.balanced_accuracy" for stage in stages]
    name = next((name for name in names if is_number(metrics.get(name))), None)
    if name is None:
        return Cell("–")
    value = metrics[name]
    interval = write_interval("accuracy", metrics.get(f"{name}.ci_low"), metrics.get(f"{name}.ci_high"))
    return Cell(write_metric("accuracy", value), interval, float(value))


def build_rules(versions: Records) -> Table:
    """What each rule found of each version, the failed ones first."""
    groups = []
    for version in versions:
        rules = sorted(version.get("rules") or [], key=lambda rule: _state(rule) != "failed")
        rows = [
            Row(
                [word(rule["rule"]), word(_state(rule), kind=f"verdict {_state(rule).split()[0]}"), _words(rule["why"])]
            )
            for rule in rules
        ]
        if rows:
            groups.append(Group(f"{version['name']} version {version['version']}: {version.get('verdict', '')}", rows))
    columns = [Column("Rule"), Column("Result", text=True), Column("Why", text=True)]
    return Table("rules", "Every rule of the gate, version by version.", columns, groups, ["params.yaml"])


def _state(rule: dict[str, Any]) -> str:
    if not rule.get("applies", True):
        return "nothing to judge"
    if rule["passed"]:
        return "held"
    if rule.get("waiver"):
        return "waived"
    return "not known" if rule.get("lacking") else "failed"


def _words(text: object) -> Cell:
    return Cell(str(text), kind="words")
