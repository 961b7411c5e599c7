"""`osteo promote`, `history`, `rollback`, `doctor`: thin, each command imports what it needs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any, Final

import click

from osteo_models.core.errors import GateRefused
from osteo_models.core.settings import load_settings


def _tracking() -> Any:
    from osteo_models.registry.tracking import open_tracking

    settings = load_settings()
    return open_tracking(settings.tracking_uri, settings.state / "mlartifacts")


def _journal() -> Any:
    from osteo_models.registry.journal import open_journal

    return open_journal(load_settings().journal_uri)


def _author() -> Any:
    from osteo_models.registry.journal_events import read_author

    return read_author(load_settings())


@click.command()
@click.argument("name")
@click.argument("version", required=False)
@click.option("--dry-run", is_flag=True, help="Judge, but change nothing.")
@click.option("--waive", multiple=True, metavar="RULE", help="Set a rule aside where it fails; stays visible.")
@click.option("--reason", default="", metavar="TEXT", help="Why rules are waived.")
@click.option("--by", default="", metavar="NAME", help="Who answers for the waiver.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def promote(
    name: str, version: str | None, dry_run: bool, waive: tuple[str, ...], reason: str, by: str, as_json: bool
) -> None:
    """Make a version champion if every rule of the gate in params.yaml holds.

    NAME is a registered model; VERSION is its challenger unless given. Exits 3, naming the rules that failed, when the
    gate refuses. Promotions, refusals and waivers are written to the journal: see `osteo history`.
    """
    from osteo_models.core.params import load_params

    settings = load_settings()
    params = load_params(settings.root / "params.yaml")
    from osteo_models.registry.gate import Waiver
    from osteo_models.registry.gate import promote as promote_version

    try:
        promotion = promote_version(
            _tracking(),
            name,
            version,
            params.gate,
            journal=_journal(),
            author=_author(),
            dry_run=dry_run,
            waivers=[Waiver(rule, reason, by) for rule in waive],
            settings=settings,
            data=params.data.path,
        )
    except GateRefused as refusal:
        _show_verdict(refusal.verdict, as_json)
        raise
    _show_verdict(promotion if as_json else promotion.verdict, as_json)
    if not as_json:
        done = "is now" if promotion.changed else "would become" if promotion.would_change else "is already"
        click.echo(f"{promotion.name} version {promotion.version} {done} champion")


def _show_verdict(verdict: Any, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(verdict), default=str))
        return
    for result in verdict.results:
        mark = "ok  " if result.applies else "n/a "
        if not result.passed:
            mark = "WAIV" if result.waiver else "MORE" if result.lacking else "FAIL"  # MORE: evidence is needed
        click.echo(f"  {mark} {result.rule}: {result.why}")


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def history(name: str, as_json: bool) -> None:
    """Who promoted, refused, waived or rolled back versions of a model, when and why.

    Exits 1 where the journal was altered.
    """
    from osteo_models.registry.champion_history import show_history

    shown = show_history(_journal(), name)
    click.echo(json.dumps(shown.as_dict()) if as_json else "\n".join(shown.as_lines()))
    if shown.faults:
        sys.exit(1)


@click.command()
@click.argument("name")
@click.option("--reason", default="", metavar="TEXT", help="Kept in the journal.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rollback(name: str, reason: str, as_json: bool) -> None:
    """Make the champion before the present one champion again."""
    from osteo_models.registry.gate import rollback as roll_back

    done = roll_back(_tracking(), name, journal=_journal(), author=_author(), reason=reason)
    said = f"{done.name} version {done.version} is champion again, in place of version {done.replaced}"
    click.echo(json.dumps(asdict(done)) if as_json else said)


@click.command()
@click.option("--fix", is_flag=True, help="Mend what is safe to mend, and say what was done.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(fix: bool, as_json: bool) -> None:
    """Say what is wrong with stores, servers, versions, keys, disk, GPU, weights, and what killed commands left.

    One line for each finding, with its remedy; exits 1 where something is wrong, or is left after --fix.
    """
    from osteo_models.ops.doctor import examine, mend

    done, left = list[str](), examine(load_settings())
    if fix:
        done, left = mend(left)
    if as_json:
        findings = [ailment.as_dict() for ailment in left]
        click.echo(json.dumps({"done": done, "findings": findings} if fix else findings))
    else:
        lines = [*(f"mended: {line}" for line in done), *map(str, left)]
        click.echo("\n".join(lines) or "nothing is wrong")
    if left:
        sys.exit(1)


COMMANDS: Final = (promote, history, rollback, doctor)
