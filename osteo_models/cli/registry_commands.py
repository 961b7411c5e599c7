"""The commands that keep the registry in order: verify, gc, lineage, reproduce. Thin, with lazy imports, as `cli`."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict
from typing import Any

import click

from osteo_models.cli import options
from osteo_models.cli.options import pass_context
from osteo_models.core.errors import InputError
from osteo_models.registry.run_context import RunContext

DEFAULT_HOURS = 24.0


@click.command()
@click.argument("reference", required=False)
@click.option("--paths", is_flag=True, help="Name damaged files of the data set; their names hold pseudonyms.")
@options.as_json
@pass_context
def verify(context: RunContext, reference: str | None, paths: bool, as_json: bool) -> None:
    """Check every byte of versions, data and DVC's cache, tags and metrics, and the runs that versions need.

    Of champions, also whether their evidence is that which they were promoted on.

    REFERENCE is NAME, NAME@alias or NAME/version, and only those versions are checked; without it everything is.
    Exits 1 with one line for each finding.
    """
    from osteo_models.data.revisions import find_cache
    from osteo_models.registry.retention import read_runs
    from osteo_models.registry.verify import check_data, check_judged, check_version, choose_versions
    from osteo_models.registry.versions import CHAMPION

    tracking, root = context.tracking, context.settings.root
    versions, runs = choose_versions(tracking, reference), read_runs(tracking)
    findings = [finding for version in versions for finding in check_version(tracking, version, runs)]
    if any(CHAMPION in version.aliases for version in versions):
        findings += [finding for version in versions for finding in check_judged(context.journal, version)]
    if reference is None:
        findings += check_data(root, context.params.data.path, find_cache(root), paths=paths)
    checked = f"{len(versions)} versions" + ("" if reference else ", the data and DVC's cache")
    lines = [*map(str, findings), f"{len(findings)} findings in {checked}"]
    options.show([asdict(finding) for finding in findings], lines, as_json)
    if findings:
        sys.exit(1)


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option(
    "--older-than", type=click.FloatRange(min=0), default=DEFAULT_HOURS, show_default=True, help="Hours since last use."
)
@click.option("--run", "run_id", help="Delete this MLflow run; refused if a version needs it.")
@options.as_json
@pass_context
def gc(context: RunContext, dry_run: bool, older_than: float, run_id: str | None, as_json: bool) -> None:
    """Remove what neither a version nor the current artifacts can reach.

    That is: results of jobs that no longer count, files of deleted runs, models that never became a version, stored
    features of other networks or data, and what a killed command left in the state folder.
    """
    from osteo_models.ops.dvc_stages import lock_stages
    from osteo_models.registry.garbage import delete_run, find_garbage, remove_garbage

    tracking, settings = context.tracking, context.settings
    # Stages that begin meanwhile could use again what was found to be of no use.
    with contextlib.nullcontext() if dry_run else lock_stages(settings.state):
        if run_id:
            delete_run(tracking, run_id, dry_run=dry_run)
        found = find_garbage(tracking, settings, older_than_seconds=older_than * 3600)
        if not dry_run:
            remove_garbage(tracking, settings, found)
    lines = [f"  {item.what}: {item.bytes / 1e6:.1f} MB" for item in found]
    done = "would be freed" if dry_run else "freed"
    lines.append(f"{len(found)} items, {sum(item.bytes for item in found) / 1e6:.1f} MB {done}")
    options.show([asdict(item) for item in found], lines, as_json)


@click.command()
@click.argument("reference", required=False)
@click.option("--patient", help="List what every version saw of this patient (a pseudonym).")
@click.option("--data", "revision", help="List what every version saw of this data revision (DVC's md5, or git's).")
@click.option("--patients", is_flag=True, help="Name the patients that REFERENCE was trained and tested on.")
@options.as_json
@pass_context
def lineage(
    context: RunContext,
    reference: str | None,
    patient: str | None,
    revision: str | None,
    patients: bool,
    as_json: bool,
) -> None:
    """Say what a version comes from, or which versions saw a patient or a revision of the data.

    REFERENCE is NAME, NAME@alias or NAME/version. Exits 1 where a version cannot say what it saw.
    """
    if sum(given is not None for given in (reference, patient, revision)) != 1:
        raise InputError("one question at a time", where="lineage", allowed="a REFERENCE, --patient or --data")
    from osteo_models.registry.lineage import describe_lineage, find_data, find_patient, format_lineage
    from osteo_models.registry.versions import get_version

    tracking, root = context.tracking, context.settings.root
    if reference is not None:
        version = get_version(tracking, reference)
        found = describe_lineage(tracking, version, root, patients=patients)
        return options.show(found, format_lineage(found), as_json)
    if patient is not None:
        subject, counts = f"patient {patient}", find_patient(tracking, patient)
    else:
        digest, counts = find_data(tracking, root, str(revision), context.params.data.path)
        subject = f"data md5 {digest}"
    return _show_usage(subject, counts, as_json)


def _show_usage(subject: str, counts: list[Any], as_json: bool) -> None:
    unknown = sum(bool(count.unknown) for count in counts)
    saw = sum(count.saw for count in counts)
    rest = f"; {unknown} cannot say it" if unknown else ""
    lines = [f"  {count}" for count in counts]
    lines.append(f"{subject}: {saw or 'none'} of {len(counts)} versions saw it{rest}")
    options.show([count.as_dict() for count in counts], lines, as_json)
    if unknown:
        sys.exit(1)


@click.command()
@click.argument("reference")
@click.option("--anyway", is_flag=True, help="Go on where images, folds or code differ from the record.")
@options.as_json
@pass_context
def reproduce(context: RunContext, reference: str, anyway: bool, as_json: bool) -> None:
    """Train a version again from its record, and compare weights and test scores bit by bit.

    REFERENCE is NAME@alias or NAME/version. Nothing is registered. Exits 1 where the result is not equal to the bit.
    """
    from osteo_models.core.progress import Progress
    from osteo_models.registry.reproduce import reproduce_version
    from osteo_models.registry.versions import get_version

    gpus = context.params.experiments.resources.gpu
    version = get_version(context.tracking, reference)
    progress = (lambda *_: None) if as_json else Progress("epochs")
    found = reproduce_version(context.tracking, context.settings, version, anyway=anyway, gpus=gpus, on_epoch=progress)
    options.show(asdict(found) | {"equal": found.equal}, found.as_lines(), as_json)
    if not found.equal:
        sys.exit(1)


COMMANDS = (verify, gc, lineage, reproduce)
