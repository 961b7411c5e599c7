"""Registered versions with the figures that a promotion uses, and the result of each rule of the gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import VALIDATIONS, Stage, find_stages, metric_prefix
from osteo_models.report.report_data import Records, ReportData
from osteo_models.report.wording import is_number, name_stages


def build(data: ReportData) -> dict[str, Any]:
    """The section's content."""
    rules = build_rules(data.versions)
    versions = build_versions(data.versions, data.stages)
    return {"versions": versions, "rules": rules, "results": sum(len(version["rows"]) for version in rules)}


def build_versions(versions: Records, stages: StageTable) -> Records:
    """The versions with their balanced accuracy in each kind of test."""
    rows = []
    for version in versions:
        metrics = version.get("metrics") or {}
        row: dict[str, Any] = {"alias": "", "verdict": ""} | version
        row["figures"] = [_find_figure(metrics, stages.select(validation)) for validation in VALIDATIONS]
        row["stages"] = ", ".join(name_stages([stage]) for stage in find_stages(metrics))
        rows.append(row)
    return rows


def _find_figure(metrics: dict[str, Any], stages: Sequence[Stage]) -> dict[str, Any]:
    """Balanced accuracy in the first of these stages that a version took part in; empty when it took part in none."""
    for stage in stages:
        name = f"{metric_prefix(stage, 'patient')}.balanced_accuracy"
        if is_number(metrics.get(name)):
            return {"value": metrics[name], **{end: metrics.get(f"{name}.{end}") for end in ("ci_low", "ci_high")}}
    return {}


def build_rules(versions: Records) -> Records:
    """The result of each rule for each version, the failed ones first."""
    return [
        {
            "title": f"{version['name']} version {version['version']}: {version.get('verdict', '')}",
            "rows": sorted(
                (rule | {"state": _state(rule)} for rule in version["rules"]),
                key=lambda rule: rule["state"] != "failed",
            ),
        }
        for version in versions
        if version.get("rules")
    ]


def _state(rule: dict[str, Any]) -> str:
    if not rule.get("applies", True):
        return "nothing to judge"
    if rule["passed"]:
        return "held"
    if rule.get("waiver"):
        return "waived"
    return "not known" if rule.get("missing_evidence") else "failed"
