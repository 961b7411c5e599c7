"""DVC stage `report`: one self-contained HTML page."""

from __future__ import annotations

import json

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.core.params import PARAMS_FILE, Params, load_params
from osteo_models.core.settings import Settings, load_settings
from osteo_models.registry.model_card import attach_report
from osteo_models.registry.tracking import open_tracking
from osteo_models.report.report_command import write_report
from pipelines.entry import main, say


@task(cache_policy=NO_CACHE)
def build(params: Params, settings: Settings) -> None:
    """Write artifacts/report/index.html, and log it to the runs that it is about."""
    page = write_report(params, settings)
    registered = json.loads((settings.artifacts / "register.json").read_text(encoding="utf-8"))
    tracking = open_tracking(settings.tracking_uri, settings.state / "mlartifacts")
    runs = attach_report(tracking, page, [f"{entry['name']}/{entry['version']}" for entry in registered])
    say(f"  {page.relative_to(settings.root)}, and with {len(runs)} runs in MLflow")


@flow(name="report")
def report() -> None:
    """Build the report."""
    settings = load_settings()
    params = load_params(settings.root / PARAMS_FILE)
    build(params, settings)


if __name__ == "__main__":
    main(lambda *_: report())
