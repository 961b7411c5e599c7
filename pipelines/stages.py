"""The DVC stages as a flow, for schedules and for people who start them from Prefect's page: up to one, or all."""

from __future__ import annotations

from typing import Literal

from prefect import flow

from osteo_models.ops.dvc_stages import open_stages
from osteo_models.ops.parameter_checks import check_params
from osteo_models.registry.run_context import RunContext
from pipelines.entry import say
from pipelines.reconcile import tag_flow_run

Stage = Literal["cohort", "splits", "search", "experiments", "evaluate", "explain", "register", "report"]


@flow(name="stages", on_running=[tag_flow_run])
def run_stages(last: Stage = "report") -> None:
    """Run the stages of dvc.yaml up to one of them; DVC knows which are up to date.

    Args:
        last: The stage to stop after.
    """
    context = RunContext()
    check_params(context.params, context.settings.weights_dir)
    with open_stages(context, say) as stages:
        stages.reproduce(last)
