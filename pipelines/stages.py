"""The DVC stages as a flow, for schedules and for people who start them from Prefect's page: up to one, or all."""

from __future__ import annotations

from typing import Literal

from prefect import flow

from osteo_models.core.params import PARAMS_FILE, load_params
from osteo_models.core.settings import load_settings
from osteo_models.ops.demo import ensure_data, only_one, reproduce
from osteo_models.ops.parameter_checks import check_params
from pipelines.entry import say
from pipelines.reconcile import sign

Stage = Literal["cohort", "splits", "search", "experiments", "evaluate", "explain", "register", "report"]


@flow(name="stages", on_running=[sign])
def run_stages(last: Stage = "report") -> None:
    """Run the stages of dvc.yaml up to one of them; DVC knows which are up to date.

    Args:
        last: The stage to stop after.
    """
    settings = load_settings()
    params = load_params(settings.root / PARAMS_FILE)
    check_params(params, settings.weights_dir)
    with only_one(settings.state):
        ensure_data(params, settings, say)
        reproduce(settings, [last], say)
