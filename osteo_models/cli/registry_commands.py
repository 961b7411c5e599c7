"""The commands that keep the registry in order: verify, gc, lineage, reproduce. Thin, with lazy imports, as `cli`."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from typing import Any

import click

from osteo_models.core.errors import InputError
from osteo_models.core.settings import load_settings

DEFAULT_HOURS = 24.0


def _tracking() -> Any:
    from osteo_models.registry.tracking import open_tracking

    settings = load_settings()
    return open_tracking(settings.tracking_uri, settings.state / "mlartifacts")


def _params() -> Any:
    from osteo_models.core.params import load_params

    return load_params(load_settings().root / "params.yaml")


@click.command()
@click.argument("reference", required=False)
@click.option("--paths", is_flag=True, help="Name damaged files of the data set; their names hold pseudonyms.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(reference: str | None, paths: bool, as_json: bool) -> None:
    """Check every byte of versions, data and DVC's cache, tags and metrics, and the runs that versions need.

    Of champions, also whether their evidence is that which they were promoted on.

    REFERENCE is NAME, NAME@alias or NAME/version, and only those versions are checked; without it everything is.
    Exits 1 with one line for each finding.
    """
    from osteo_models.data.revisions import find_cache
    from osteo_models.registry.journal import open_journal
    from osteo_models.registry.lookup import CHAMPION
    from osteo_models.registry.retention import read_runs
    from osteo_models.registry.verify import check_data, check_judged, check_version, choose_versions

    tracking, settings = _tracking(), load_settings()
    versions, runs = choose_versions(tracking, reference), read_runs(tracking)
    findings = [finding for version in versions for finding in check_version(tracking, version, runs)]
    if any(CHAMPION in version.aliases for version in versions):
        journal = open_journal(settings.journal_uri)
        findings += [finding for version in versions for finding in check_judged(journal, version)]
    if reference is None:
        findings += check_data(settings.root, _params().data.path, find_cache(settings.root), paths=paths)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            click.echo(str(finding))
        checked = f"{len(versions)} versions" + ("" if reference else ", the data and DVC's cache")
        click.echo(f"{len(findings)} findings in {checked}")
    if findings:
        sys.exit(1)


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option(
    "--older-than", type=click.FloatRange(min=0), default=DEFAULT_HOURS, show_default=True, help="Hours since last use."
)
@click.option("--run", "run_id", help="Delete this MLflow run; refused if a version needs it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(dry_run: bool, older_than: float, run_id: str | None, as_json: bool) -> None:
    """Remove what neither a version nor the current artifacts can reach.

    That is: results of jobs that no longer count, files of deleted runs, models that never became a version, stored
    features of other networks or data, and what a killed command left in the state folder.
    """
    from osteo_models.ops.demo import only_one
    from osteo_models.registry.garbage import delete_run, find_garbage, remove_garbage

    tracking, settings = _tracking(), load_settings()
    # Stages that begin meanwhile could use again what was found to be of no use.
    with contextlib.nullcontext() if dry_run else only_one(settings.state):
        if run_id:
            delete_run(tracking, run_id, dry_run=dry_run)
        found = find_garbage(tracking, settings, older_than_seconds=older_than * 3600)
        if not dry_run:
            remove_garbage(tracking, settings, found)
    if as_json:
        click.echo(json.dumps([asdict(item) for item in found], default=str))
        return
    for item in found:
        click.echo(f"  {item.what}: {item.bytes / 1e6:.1f} MB")
    done = "would be freed" if dry_run else "freed"
    click.echo(f"{len(found)} items, {sum(item.bytes for item in found) / 1e6:.1f} MB {done}")


@click.command()
@click.argument("reference", required=False)
@click.option("--patient", help="List what every version saw of this patient (a pseudonym).")
@click.option("--data", "revision", help="List what every version saw of this data revision (DVC's md5, or git's).")
@click.option("--patients", is_flag=True, help="Name the patients that REFERENCE was trained and tested on.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lineage(reference: str | None, patient: str | None, revision: str | None, patients: bool, as_json: bool) -> None:
    """Say what a version comes from, or which versions saw a patient or a revision of the data.

    REFERENCE is NAME, NAME@alias or NAME/version. Exits 1 where a version cannot say what it saw.
    """
    if sum(given is not None for given in (reference, patient, revision)) != 1:
        raise InputError("one question at a time", where="lineage", allowed="a REFERENCE, --patient or --data")
    from osteo_models.registry import lineage as registry
    from osteo_models.registry.versions import get_version

    tracking = _tracking()
    if reference is not None:
        version, root = get_version(tracking, reference), load_settings().root
        found = registry.describe_lineage(tracking, version, root, patients=patients)
        click.echo(json.dumps(found) if as_json else "\n".join(registry.as_lines(found)))
        return
    if patient is not None:
        subject, sightings = f"patient {patient}", registry.find_patient(tracking, patient)
    else:
        root, data = load_settings().root, _params().data.path
        digest, sightings = registry.find_data(tracking, root, str(revision), data)
        subject = f"data md5 {digest}"
    _show_sightings(subject, sightings, as_json)


def _show_sightings(subject: str, sightings: list[Any], as_json: bool) -> None:
    from osteo_models.registry.lineage import as_dict

    unknown = sum(bool(each.unknown) for each in sightings)
    if as_json:
        click.echo(json.dumps([as_dict(each) for each in sightings]))
    else:
        for each in sightings:
            click.echo(f"  {each}")
        saw = sum(each.saw for each in sightings)
        rest = f"; {unknown} cannot say it" if unknown else ""
        click.echo(f"{subject}: {saw or 'none'} of {len(sightings)} versions saw it{rest}")
    if unknown:
        sys.exit(1)


@click.command()
@click.argument("reference")
@click.option("--anyway", is_flag=True, help="Go on where images, folds or code differ from the record.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reproduce(reference: str, anyway: bool, as_json: bool) -> None:
    """Train a version again from its record, and compare weights and test scores bit by bit.

    REFERENCE is NAME@alias or NAME/version. Nothing is registered. Exits 1 where the result is not equal to the bit.
    """
    from osteo_models.core.progress import Progress
    from osteo_models.registry.reproduce import reproduce_version
    from osteo_models.registry.versions import get_version

    tracking, gpus = _tracking(), _params().experiments.resources.gpu
    version = get_version(tracking, reference)
    progress = (lambda *_: None) if as_json else Progress("epochs")
    found = reproduce_version(tracking, load_settings(), version, anyway=anyway, gpus=gpus, on_epoch=progress)
    if as_json:
        click.echo(json.dumps(asdict(found) | {"equal": found.equal}))
    else:
        click.echo("\n".join(found.as_lines()))
    if not found.equal:
        sys.exit(1)


COMMANDS = (verify, gc, lineage, reproduce)
