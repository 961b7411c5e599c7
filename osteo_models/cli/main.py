"""The `osteo` command: thin; each command imports what it needs, so that `osteo --help` answers at once."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from typing import Any

import click

from osteo_models import __version__
from osteo_models.cli.data_commands import data
from osteo_models.cli.gate_commands import COMMANDS as GATE
from osteo_models.cli.model_commands import COMMANDS as USE
from osteo_models.cli.registry_commands import COMMANDS as UPKEEP
from osteo_models.core.errors import OsteoError
from osteo_models.core.settings import die_with_parent, load_settings, prepare_environment, spare_collections

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
def main(debug: bool) -> None:
    """Osteoporosis models from lumbar MRI and CT: data, trials, registry.

    Exit codes: 0 done, 1 failed, 2 wrong input or usage, 3 promotion refused.
    """
    spare_collections()
    prepare_environment()
    settings = load_settings()
    if settings.die_with_parent:
        die_with_parent()


for command in (data, *UPKEEP, *USE, *GATE):
    main.add_command(command)


@main.command()
@click.option("--no-servers", is_flag=True, help="Do not start the MLflow and Prefect servers.")
def demo(no_servers: bool) -> None:
    """The whole job: synthetic cohort, training, registry, champion, report."""
    from osteo_models.ops.demo import run_demo

    run_demo(load_settings(), servers=not no_servers, say=click.echo)


@main.command()
@click.option("--status", is_flag=True, help="Show the newest search as it stands, and run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def search(status: bool, as_json: bool) -> None:
    """Search the architecture of the traditional CNN, or go on with a search that was stopped.

    Runs the DVC stages up to `search`, then prints its candidates and its winner.
    """
    from osteo_models.core.params import load_params

    settings = load_settings()
    load_params(settings.root / "params.yaml")  # told before what trains is imported
    from osteo_models.cli.search_command import as_lines, read_status, run_search, tell_dashboard

    if status:
        found = read_status(settings)
    elif as_json:  # which goes to the standard output alone
        found = run_search(settings, say=partial(click.echo, err=True), output=sys.stderr.fileno())
    else:
        found = run_search(settings, say=click.echo)
    for line in [json.dumps(found)] if as_json else [*as_lines(found), tell_dashboard(settings)]:
        click.echo(line)


@main.command()
@click.option("--profile", type=click.Choice(["laptop", "cluster"]), default="laptop", show_default=True)
@click.option("--workers", type=click.IntRange(1, 64), help="Of the Ray cluster, beside its head; two by default.")
def up(profile: str, workers: int | None) -> None:
    """Start the MLflow and Prefect servers on loopback.

    With --profile cluster they ask for passwords and lie on PostgreSQL and an S3 store, beside a Ray cluster of several
    nodes; all of them are processes of this machine.
    """
    from osteo_models.ops import servers

    settings = load_settings()
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
def down() -> None:
    """Stop the servers that `osteo up` started."""
    from osteo_models.ops.servers import stop_servers

    state = load_settings().state
    stopped = [*stop_servers(state), *stop_servers(state / "cluster")]
    for server in stopped:
        click.echo(f"{server.name}: stopped (process {server.pid})")
    if not stopped:
        click.echo("no server is running")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def params(as_json: bool) -> None:
    """Check params.yaml and print what is in force."""
    import yaml

    from osteo_models.core.params import load_params

    checked = load_params(load_settings().root / "params.yaml")
    from osteo_models.ops.parameter_checks import check_params

    check_params(checked, load_settings().weights_dir)
    content = checked.model_dump(mode="json")
    click.echo(json.dumps(content) if as_json else yaml.safe_dump(content, sort_keys=False, width=100), nl=as_json)


def _tracking() -> Any:
    from osteo_models.registry.tracking import open_tracking

    settings = load_settings()
    return open_tracking(settings.tracking_uri, settings.state / "mlartifacts")


@main.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def versions(name: str | None, as_json: bool) -> None:
    """List registered model versions with their aliases and balanced accuracies."""
    from osteo_models.registry.versions import list_headlines, list_versions

    found = list_versions(_tracking(), name)
    if as_json:
        click.echo(json.dumps([asdict(version) for version in found], default=str))
        return
    for version in found:
        click.echo(
            f"{version.name} version {version.version} {' '.join(f'@{alias}' for alias in version.aliases)}".rstrip()
        )
        for metric in list_headlines(version.metrics):
            click.echo(f"  {metric} {version.metrics[metric]:.3f}")
