"""DVC stage `report`: one self-contained HTML page."""

from __future__ import annotations

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.pages import write_report
from osteo_models.params import Params
from osteo_models.settings import Settings
from pipelines.entry import main, say


@task(cache_policy=NO_CACHE)
def build(params: Params, settings: Settings) -> None:
    """Write artifacts/report/index.html."""
    say(f"  {write_report(params, settings).relative_to(settings.root)}")


@flow(name="report", validate_parameters=False)
def report(params: Params, settings: Settings) -> None:
    """Build the report."""
    build(params, settings)


if __name__ == "__main__":
    main(report)
