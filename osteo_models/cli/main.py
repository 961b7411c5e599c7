"""The `osteo` command: thin; each command imports what it needs, so that `osteo --help` answers at once."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from typing import Any

import click

from osteo_models import __version__
from osteo_models.cli import options
from osteo_models.cli.data_commands import data
from osteo_models.cli.gate_commands import COMMANDS as GATE
from osteo_models.cli.model_commands import COMMANDS as USE
from osteo_models.cli.options import pass_context
from osteo_models.cli.registry_commands import COMMANDS as REGISTRY
from osteo_models.core.errors import OsteoError
from osteo_models.core.settings import die_with_parent, disable_gc, prepare_environment
from osteo_models.registry.run_context import RunContext

STOPPED = 130  # what a shell gives for a command that Ctrl-C ended


class _Group(click.Group):
    """Tells an expected error in one line and exits with its code; `--debug` shows where it came from."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OsteoError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            command = " ".join(["osteo", *sys.argv[1:]])
            click.echo(f"\nstopped; what is finished is kept, and `{command}` goes on from there", err=True)
            sys.exit(STOPPED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="osteo")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    """Osteoporosis models from lumbar MRI and CT: data, trials, registry.

    Exit codes: 0 done, 1 failed, 2 wrong input or usage, 3 promotion refused.
    """
    disable_gc()
    prepare_environment()
    ctx.obj = RunContext()
    if ctx.obj.settings.die_with_parent:
        die_with_parent()


for command in (data, *REGISTRY, *USE, *GATE):
    main.add_command(command)


@main.command()
@click.option("--no-servers", is_flag=True, help="Do not start the MLflow and Prefect servers.")
@pass_context
def demo(context: RunContext, no_servers: bool) -> None:
    """The whole job: synthetic cohort, training, registry, champion, report."""
    from osteo_models.ops.demo import run_demo

    run_demo(context, servers=not no_servers, say=click.echo)


@main.command()
@click.option("--status", is_flag=True, help="Show the newest search as it stands, and run nothing.")
@options.as_json
@pass_context
def search(context: RunContext, status: bool, as_json: bool) -> None:
    """Search the architecture of the traditional CNN, or go on with a search that was stopped.

    Runs the DVC stages up to `search`, then prints its candidates and its winner.
    """
    _ = context.params  # checked before the training modules are imported
    from osteo_models.cli.search_command import as_lines, describe_dashboard, read_status, run_search

    if status:
        found = read_status(context)
    elif as_json:  # which goes to the standard output alone
        found = run_search(context, say=partial(click.echo, err=True), output=sys.stderr.fileno())
    else:
        found = run_search(context, say=click.echo)
    options.show(found, [*as_lines(found), describe_dashboard(context)], as_json)


@main.command()
@click.option("--profile", type=click.Choice(["laptop", "cluster"]), default="laptop", show_default=True)
@click.option("--workers", type=click.IntRange(1, 64), help="Of the Ray cluster, beside its head; two by default.")
@pass_context
def up(context: RunContext, profile: str, workers: int | None) -> None:
    """Start the MLflow and Prefect servers on loopback.

    With --profile cluster they ask for passwords and lie on PostgreSQL and an S3 store, beside a Ray cluster of several
    nodes; all of them are processes of this machine.
    """
    from osteo_models.ops import servers

    settings = context.settings
    if profile == "laptop":
        if workers is not None:
            raise click.UsageError("--workers goes with --profile cluster")
        started = servers.start_servers(settings.state)
    else:
        from osteo_models.ops.servers.cluster_profile import WORKERS, start_cluster

        started = list(start_cluster(settings.state, workers=workers or WORKERS).values())
    for server in started:
        click.echo(f"{server.name}: {server.url} (process {server.pid})")
    if profile == "cluster":
        click.echo(f"To use them: source {settings.state / 'cluster' / 'env'}")


@main.command()
@pass_context
def down(context: RunContext) -> None:
    """Stop the servers that `osteo up` started."""
    from osteo_models.ops.servers import stop_servers

    state = context.settings.state
    stopped = [*stop_servers(state), *stop_servers(state / "cluster")]
    for server in stopped:
        click.echo(f"{server.name}: stopped (process {server.pid})")
    if not stopped:
        click.echo("no server is running")


@main.command()
@pass_context
def env(context: RunContext) -> None:
    """Print the variables with which programs in other folders use this project's stores: `eval "$(osteo env)"`.

    In the project's folder no variable is needed. Those of the cluster profile are in `.osteo/cluster/env`.
    """
    import shlex

    from osteo_models.ops.servers import find_prefect

    settings = context.settings
    variables = {"MLFLOW_TRACKING_URI": settings.tracking_uri, "PREFECT_HOME": str(settings.state / "prefect")}
    if url := find_prefect(settings.state):
        variables["PREFECT_API_URL"] = url
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
@options.as_json
@pass_context
def params(context: RunContext, as_json: bool) -> None:
    """Check params.yaml and print what is in force."""
    import yaml

    checked = context.params
    from osteo_models.ops.parameter_checks import check_params

    check_params(checked, context.settings.weights_dir)
    content = checked.model_dump(mode="json")
    click.echo(json.dumps(content) if as_json else yaml.safe_dump(content, sort_keys=False, width=100), nl=as_json)


@main.command()
@click.argument("name", required=False)
@options.as_json
@pass_context
def versions(context: RunContext, name: str | None, as_json: bool) -> None:
    """List registered model versions with their aliases and balanced accuracies."""
    from osteo_models.registry.versions import list_headlines, list_versions

    found = list_versions(context.tracking, name)
    lines = []
    for version in found:
        aliases = "".join(f" @{alias}" for alias in version.aliases)
        lines.append(f"{version.name} version {version.version}{aliases}")
        lines += [f"  {metric} {version.metrics[metric]:.3f}" for metric in list_headlines(version.metrics)]
    options.show([asdict(version) for version in found], lines, as_json)
