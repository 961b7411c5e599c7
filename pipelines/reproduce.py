"""Build a registered version again and compare: `python -m pipelines.reproduce NAME@ALIAS [--anyway]`."""

from __future__ import annotations

import click
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.core.errors import OsteoError
from osteo_models.core.progress import Progress
from osteo_models.registry.reproduce import Reproduction, reproduce_version
from osteo_models.registry.run_context import RunContext
from osteo_models.registry.versions import get_version
from pipelines.entry import main, say
from pipelines.reconcile import tag_flow_run


@task(task_run_name="reproduce {reference}", cache_policy=NO_CACHE)
def build_again(reference: str, anyway: bool, context: RunContext) -> Reproduction:
    """Train the version again and compare it with what was registered."""
    gpus = context.params.experiments.resources.gpu
    version = get_version(context.tracking, reference)
    progress = Progress("epochs")
    return reproduce_version(context.tracking, context.settings, version, anyway=anyway, gpus=gpus, on_epoch=progress)


@flow(name="reproduce", on_running=[tag_flow_run])
def reproduce(reference: str, anyway: bool = False) -> None:
    """Build a version again; one that is not equal to the bit is an error.

    Args:
        reference: NAME@alias or NAME/version.
        anyway: Go on where data, splits or code differ from the record.
    """
    found = build_again(reference, anyway, RunContext())
    for line in found.as_lines():
        say(f"  {line}")
    if not found.equal:
        raise OsteoError("not equal to the bit", where=f"{found.name} version {found.version}")


@click.command()
@click.argument("reference")
@click.option("--anyway", is_flag=True, help="Go on where data, splits or code differ from the record.")
def command(reference: str, anyway: bool) -> None:
    """Build the version REFERENCE (NAME@alias or NAME/version) again and compare."""
    main(lambda: reproduce(reference, anyway))


if __name__ == "__main__":
    command()
