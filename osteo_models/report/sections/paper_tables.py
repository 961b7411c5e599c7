"""Tables 1, 2, 8 and 9 of the paper with ours, and the ledger of its printed percentages."""

from __future__ import annotations

from typing import Any

from osteo_models.evaluation.paper import HOLDOUT_TABLE
from osteo_models.report.report_data import Records, ReportData
from osteo_models.report.sections.stages import sort_jobs
from osteo_models.report.wording import name_stages


def build(data: ReportData) -> dict[str, Any]:
    """The section's content."""
    tables = data.tables
    return {
        "skewness": tables["table1"],
        "experiments": tables["table2"],
        "holdout": name_stages(data.stages.find_paper_table(HOLDOUT_TABLE)),
        "scores": sort_jobs(tables["table8"]),
        "delong": tables["table9"],
        "unpaired": [row for row in tables["delong_unpaired"] if row["protocol"] == "patient"],
        "ledger": tables["ledger"],
        "sizes": tables["ledger_sizes"],
        "ledger_words": describe_ledger(tables["ledger"]),
    }


def describe_ledger(rows: Records) -> str:
    """The ledger in a sentence."""
    if not rows:
        return ""
    possible = sum(row["possible"] == 1 for row in rows)
    areas = sum(row["auc_is_balanced"] == 1 for row in rows)
    return (
        f"{possible} of {len(rows)} printed rows are possible as counts at the stated numbers of images; in {areas} "
        "the printed ROC AUC equals the balanced accuracy, so it was taken from decisions, not from scores."
    )
