"""`osteo data ...`: make, import, check and compare data sets; thin, each command imports what it needs."""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from osteo_models.cli import options
from osteo_models.cli.options import FOLDER, pass_context
from osteo_models.core.settings import Settings
from osteo_models.registry.run_context import RunContext

if TYPE_CHECKING:
    from osteo_models.data.differences import Difference

STILL_HELD = """\
Earlier revisions, and outputs of the stages until `dvc repro` has run, still hold the person: in DVC's cache of every
clone and on every remote. When the new revision is committed and its outputs are made:
  dvc gc --workspace            in every clone: removes all earlier revisions from its cache
  dvc gc --workspace --cloud    once for every remote (--remote NAME): removes them there, too"""


@click.group()
def data() -> None:
    """The image data set."""


@data.command()
@click.option("--out", type=FOLDER, default=Path("data"), show_default=True, help="Folder to make.")
@click.option("--seed", type=click.IntRange(min=0), default=2023, show_default=True)
@click.option("--scale", type=click.Choice(["paper", "small"]), default="paper", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace what is in the folder.")
def synth(out: Path, seed: int, scale: Any, overwrite: bool) -> None:
    """Make the synthetic DICOM cohort: a test bed, not evidence."""
    from osteo_models.core.progress import Progress
    from osteo_models.phantom import synthesize_cohort

    counts = synthesize_cohort(out, seed=seed, scale=scale, overwrite=overwrite, progress=Progress("images"))
    click.echo(f"{out}: " + ", ".join(f"{name} {count:,}" for name, count in asdict(counts).items()))


@data.command("import")
@click.argument("source", type=FOLDER)
@click.option("--clinical", type=FOLDER, required=True, help="Table of the people, by the identifiers in the files.")
@click.option("--pictures", type=FOLDER, help="Table of PNG and JPEG files: file, patient_id, modality.")
@click.option("--out", type=FOLDER, default=Path("data"), show_default=True, help="The data set to make or add to.")
@click.option("--key", type=FOLDER, help="Key file of the pseudonyms; made where it is missing. [OSTEO_KEY_FILE]")
@click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count() or 1, help="Processes that read.")
@options.as_json
@pass_context
def import_(
    context: RunContext,
    source: Path,
    clinical: Path,
    pictures: Path | None,
    out: Path,
    key: Path | None,
    workers: int,
    as_json: bool,
) -> None:
    """Import a folder or zip archive: checked, de-identified, one row an input in intake.csv.

    Killed, it goes on when the command is given again; the same source twice adds nothing.
    """
    from osteo_models.core.params import PARAMS_FILE
    from osteo_models.core.progress import Progress
    from osteo_models.data.earlier_revisions import require_splits
    from osteo_models.data.intake.importer import import_source
    from osteo_models.data.intake.pseudonyms import load_key
    from osteo_models.data.reasons import DOUBTS, REASONS
    from osteo_models.data.splits import PREVIOUS_SPLITS

    settings = context.settings
    require_splits(settings.root, out)  # an import may take hours: what is missing is reported first
    words = context.params.data.words if (settings.root / PARAMS_FILE).is_file() else {}
    key = key or settings.key_file
    judged, written = (_silent, _silent) if as_json else (Progress("headers judged"), Progress("images written"))
    found = import_source(
        source,
        clinical,
        out,
        load_key(key, data=out),
        pictures=pictures,
        names=key.expanduser().with_suffix(".names.csv"),
        doubtful=key.expanduser().with_suffix(".doubtful"),
        site_words=tuple(sorted(words.items())),
        workers=workers,
        on_judged=judged,
        on_written=written,
        on_built=lambda built: _save_splits(settings, out, built),
    )
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    refused = found.inputs - found.accepted - found.doubtful
    doubtful = f", {found.doubtful:,} doubtful" if found.doubtful else ""
    click.echo(f"{found.inputs:,} files: {found.accepted:,} accepted, {refused:,} refused{doubtful}")
    for reason, count in sorted(found.reasons.items(), key=lambda each: (-each[1], each[0])):
        click.echo(f"  {count:>7,} {reason}: {(REASONS | DOUBTS)[reason]}")
    click.echo(
        f"{found.images:,} images, {found.added:,} of them new; {found.look_alikes:,} look like another patient's"
    )
    if found.doubtful:
        click.echo(f"doubtful files are not in the data set: see `osteo data review {out} --html sheet.html`")
    if (out / PREVIOUS_SPLITS).is_file():
        click.echo("patients keep their side in the splits (splits.csv of the data set)")
    if found.accepted:
        click.echo(f"next: `dvc add {out}`, commit {out}.dvc, `dvc repro`")
    else:
        click.echo(f"nothing was accepted: {out / 'intake.csv'} has the reason of every file")
    if found.reasons.get("not_in_table", 0) == found.inputs:
        click.echo(f"patient_id of {clinical} must be what the files have as Patient ID (0010,0020)")


@data.command()
@click.argument("folder", type=FOLDER, default=Path("data"))
@click.option("--html", type=FOLDER, help="Write the contact sheet: doubtful and accepted series as one page.")
@click.option("--accept", multiple=True, metavar="ID", help="Accept a series or an input; may be repeated.")
@click.option("--refuse", multiple=True, metavar="ID", help="Refuse a series or an input; may be repeated.")
@click.option("--why", help="Reason of the decision.")
@click.option("--who", default=getpass.getuser, show_default="user name", help="Who decides.")
@click.option(
    "--key", type=FOLDER, help="Key file of the pseudonyms, next to which doubtful images are. [OSTEO_KEY_FILE]"
)
@options.as_json
@pass_context
def review(
    context: RunContext,
    folder: Path,
    html: Path | None,
    accept: tuple[str, ...],
    refuse: tuple[str, ...],
    why: str | None,
    who: str,
    key: Path | None,
    as_json: bool,
) -> None:
    """Show what an import held back as doubtful, and record decisions, which the next import follows."""
    from osteo_models.core.errors import InputError
    from osteo_models.data.decisions import record_decisions
    from osteo_models.report.contact_sheet import list_series, render_contact_sheet

    if (accept or refuse) and not (why or "").strip():
        raise InputError("a decision without a reason", where="--why", remedy="give the reason with --why")
    decided = 0
    if accept:
        decided += record_decisions(folder, accept, "accepted", who=who, why=why or "")
    if refuse:
        decided += record_decisions(folder, refuse, "refused", who=who, why=why or "")
    doubtful = (key or context.settings.key_file).expanduser().with_suffix(".doubtful")
    cards = list_series(folder, doubtful, context.params.prepare)
    if html:
        html.write_text(render_contact_sheet(cards, str(folder)), encoding="utf-8")
    content = [{name: value for name, value in asdict(card).items() if name != "picture"} for card in cards]
    waiting = [card for card in cards if card.reason]
    lines = [f"{card.name}: {card.reason}, {card.modality} of {card.patient}, {card.inputs} files" for card in waiting]
    lines.append(f"{len(waiting):,} doubtful series, {len(cards) - len(waiting):,} accepted ones")
    lines += [f"{decided:,} files decided: import the source again"] if decided else []
    options.show(content, lines, as_json)


def _save_splits(settings: Settings, data: Path, built: Path) -> None:
    """Copy the splits into the successor of a data set, so that each patient keeps the place in them."""
    from osteo_models.data.earlier_revisions import require_splits
    from osteo_models.data.splits import save_splits

    require_splits(settings.root, data)
    save_splits(settings.artifacts / "splits" / "splits.csv", built)


def _silent(done: int, total: int) -> None:
    """No progress beside JSON."""


@data.command()
@click.argument("folder", type=FOLDER, default=Path("data"))
@options.as_json
def check(folder: Path, as_json: bool) -> None:
    """Look for anything in the images of a data set that could name a person; exit 1 where there is."""
    from osteo_models.core.errors import InputError, OsteoError
    from osteo_models.data.intake.identity_check import find_identity

    if not (folder / "dicom").is_dir():
        raise InputError("no folder `dicom` of images", where=str(folder))
    found = find_identity(folder)
    if as_json:
        click.echo(json.dumps(found))
    kinds: dict[str, list[str]] = {}
    for line in found:
        kinds.setdefault(line.split(": ", 1)[-1], []).append(line)
    for first, *others in [] if as_json else kinds.values():
        click.echo(first + (f" (and {len(others):,} more)" if others else ""))
    if found:
        raise OsteoError(
            f"{len(found)} places could name a person", where=str(folder), remedy="import the source again"
        )
    if not as_json:
        click.echo("nothing that could name a person")


@data.command()
@click.argument("before")
@click.argument("after", required=False)
@click.option("--html", type=FOLDER, help="Write a page.")
@options.as_json
@pass_context
def diff(context: RunContext, before: str, after: str | None, html: Path | None, as_json: bool) -> None:
    """What changed between two revisions of the data set: people, labels, pixels, places, shift, stale models.

    BEFORE and AFTER are git revisions; without AFTER, what data.dvc on disk records.
    """
    from osteo_models.data.differences import compare_revisions
    from osteo_models.data.earlier_revisions import load_revision
    from osteo_models.report.data_difference import as_html, as_lines

    settings, params = context.settings, context.params
    old, new = (load_revision(settings.root, params.data.path, name) for name in (before, after))
    found = compare_revisions(old, new, params.cohort)
    stale = _stale_versions(context, found)
    if html:
        html.write_text(as_html(found, stale), encoding="utf-8")
    options.show(found.as_dict() | {"stale_versions": stale}, as_lines(found, stale), as_json)


@data.command()
@click.argument("patient")
@options.as_json
@pass_context
def withdraw(context: RunContext, patient: str, as_json: bool) -> None:
    """Take PATIENT out of the data set, record the next revision, and list the versions to retrain."""
    from osteo_models.data.revisions import read_data_digest, run_dvc
    from osteo_models.data.withdrawal import withdraw_patient

    settings, params, folder = context.settings, context.params, context.data
    digests: list[str | None] = []

    def record() -> None:
        run_dvc(settings.root, ["add", "--quiet", params.data.path])
        digests.append(read_data_digest(settings.root, params.data.path))

    taken = withdraw_patient(
        folder, patient, on_built=lambda built: _save_splits(settings, folder, built), record=record
    )
    digest = digests[0] or ""
    seen = _versions_that_saw(context, patient)
    lines = [
        f"{taken.patient_id}: {taken.images} images and {taken.rows} table rows taken out",
        f"new revision: md5 {digest}; next: commit {params.data.path}.dvc, `dvc repro`, commit dvc.lock, `dvc push`",
        *(f"  retrain {version}" for version in seen),
        STILL_HELD,
    ]
    options.show(asdict(taken) | {"md5": digest, "versions": seen}, lines, as_json)


def _versions_that_saw(context: RunContext, patient: str) -> list[str]:
    """Registered versions that were trained or tested on a patient, or for which this is not known."""
    from osteo_models.registry.lineage import find_patient

    found: list[str] = []
    for each in find_patient(context.tracking, patient):
        tested = max(each.tested.values(), default=0)  # the stages test the same images
        what = [f"trained on {each.trained} images"] * bool(each.trained) + [f"tested on {tested}"] * bool(tested)
        if each.unknown or what:
            aliases = "".join(f" @{alias}" for alias in each.aliases)
            found.append(f"{each.name} version {each.version}{aliases}: {each.unknown or ', '.join(what)}")
    return found


def _stale_versions(context: RunContext, found: Difference) -> list[str]:
    """Registered versions that were made from another revision than the later one, and how much of it they saw."""
    from osteo_models.core.errors import OsteoError
    from osteo_models.registry.lineage import read_data_usage
    from osteo_models.registry.versions import list_versions

    touched, tracking = set(found.people_touched), context.tracking
    stale: list[str] = []
    for version in list_versions(tracking):
        digest = version.tags.get("dvc.data", "")
        if digest == found.digest_after:
            continue
        made_from = found.before if digest == found.digest_before else f"another revision ({digest or 'unknown'})"
        try:
            usage = read_data_usage(tracking, version)
        except OsteoError as error:
            saw = f"the patients that it saw are not known: {error.found}"
        else:
            tested = {patient for seen in usage.tested.values() for patient in seen}
            counts = len(touched & set(usage.trained)), len(touched & tested)
            saw = "of the people who changed, trained on {}, tested on {}".format(*counts)
            saw = saw if any(counts) else "it saw no patient that changed"
        aliases = "".join(f" @{alias}" for alias in version.aliases)
        stale.append(f"{version.name} version {version.version}{aliases}: made from {made_from}; {saw}")
    return stale
