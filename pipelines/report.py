"""DVC stage `report`: one self-contained HTML page."""

from __future__ import annotations

import json

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.registry.model_card import attach_report
from osteo_models.registry.run_context import RunContext
from osteo_models.report.report_command import write_report
from pipelines.entry import main, say


@task(cache_policy=NO_CACHE)
def build(context: RunContext) -> None:
    """Write artifacts/report/index.html, and log it to the runs that it is about."""
    settings = context.settings
    page = write_report(context.params, settings)
    registered = json.loads((settings.artifacts / "register.json").read_text(encoding="utf-8"))
    runs = attach_report(context.tracking, page, [f"{entry['name']}/{entry['version']}" for entry in registered])
    say(f"  {page.relative_to(settings.root)}, and with {len(runs)} runs in MLflow")


@flow(name="report")
def report() -> None:
    """Build the report."""
    build(RunContext())


if __name__ == "__main__":
    main(report)
