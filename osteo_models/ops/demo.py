"""`osteo demo`: from nothing to a champion and a report; given again, it continues or finds nothing to do."""

from __future__ import annotations

import json
import time

from osteo_models.core.errors import GateRefused
from osteo_models.core.settings import Settings
from osteo_models.data.data_folder import check_not_imported
from osteo_models.ops.dvc_stages import Say, Stages, open_stages
from osteo_models.registry.run_context import RunContext


def run_demo(context: RunContext, *, servers: bool, say: Say) -> None:
    """Make the data, run every DVC stage, promote what passes the gate, and say where to look.

    Args:
        context: The run context.
        servers: Whether to start the MLflow and Prefect servers.
        say: Takes each line.

    Raises:
        OsteoError: A step failed; the same command continues where it stopped.
    """
    started = time.monotonic()
    settings, params = context.settings, context.params
    from osteo_models.ops.parameter_checks import check_params  # imports what trains, so after params.yaml is checked
    from osteo_models.registry.journal import check_address

    check_params(params, settings.weights_dir)
    check_address(settings.journal_uri)  # better known before hours of training
    check_not_imported(settings.root, params.data)
    addresses = _start_servers(settings, say) if servers else []
    with open_stages(context, say) as stages:
        _replace_lost_runs(context, stages)
        stages.reproduce("register")
        champions = _promote(context, say)
        stages.reproduce()
    say("")
    say(f"Report:    {settings.artifacts / 'report' / 'index.html'}")
    for address in addresses:
        say(address)
    if champions:
        say(f"Try:       osteo predict {_example(context)} --model {champions[0]}@champion")
    if params.data.synthetic:
        say("All of this comes from a synthetic cohort: a test bed, not evidence.")
    say(f"Done in {time.monotonic() - started:.0f} s.")


def _start_servers(settings: Settings, say: Say) -> list[str]:
    from osteo_models.ops.servers import start_servers

    if settings.tracking_uri.startswith("http"):  # servers of a team; local ones would show an empty store
        return [f"{'mlflow:':<10} {settings.tracking_uri}"]
    say("Starting the MLflow and Prefect servers")
    return [f"{server.name + ':':<10} {server.url}" for server in start_servers(settings.state)]


def _registered(settings: Settings) -> list[str]:
    path = settings.artifacts / "register.json"
    if not path.is_file():
        return []
    return sorted({entry["name"] for entry in json.loads(path.read_text(encoding="utf-8"))})


def _replace_lost_runs(context: RunContext, stages: Stages) -> None:
    """DVC does not see MLflow's store: where that is gone, its runs and versions are made again."""
    from osteo_models.registry.versions import list_versions

    names = _registered(context.settings)
    if not names or set(names) <= {version.name for version in list_versions(context.tracking)}:
        return
    stages.say("The tracking store lacks the registered versions: they are made again")
    for stage in ("experiments", "evaluate", "register"):
        stages.reproduce("--force", "--single-item", stage)


def _promote(context: RunContext, say: Say) -> list[str]:
    from osteo_models.registry.gate import promote

    names = sorted(_registered(context.settings), key=lambda name: (name != "osteo-multimodal", name))
    champions: list[str] = []
    for name in names:
        try:
            promotion = promote(
                context.tracking,
                name,
                None,
                context.params.gate,
                journal=context.journal,
                author=context.author,
                settings=context.settings,
                data=context.params.data.path,
            )
        except GateRefused as refusal:
            say(f"  {name}: refused ({refusal.found})")
        else:
            champions.append(name)
            say(f"  {name} version {promotion.version} is champion")
    return champions


def _example(context: RunContext) -> str:
    root, folder = context.settings.root, context.data / "dicom"
    first = next(iter(sorted(folder.glob("*/ct-*.dcm"))), folder)
    shown = first.relative_to(root) if first.is_relative_to(root) else first
    return str(shown)
