"""`osteo promote`, `history`, `rollback`, `doctor`: thin, each command imports what it needs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any, Final

import click

from osteo_models.cli import options
from osteo_models.cli.options import pass_context
from osteo_models.core.errors import GateRefused
from osteo_models.registry.run_context import RunContext


@click.command()
@click.argument("name")
@click.argument("version", required=False)
@click.option("--dry-run", is_flag=True, help="Judge, but change nothing.")
@click.option("--waive", multiple=True, metavar="RULE", help="Set a rule aside where it fails; stays visible.")
@click.option("--reason", default="", metavar="TEXT", help="Why rules are waived.")
@click.option("--by", default="", metavar="NAME", help="Who answers for the waiver.")
@options.as_json
@pass_context
def promote(
    context: RunContext,
    name: str,
    version: str | None,
    dry_run: bool,
    waive: tuple[str, ...],
    reason: str,
    by: str,
    as_json: bool,
) -> None:
    """Make a version champion if every rule of the gate in params.yaml holds.

    NAME is a registered model; VERSION is its challenger unless given. Exits 3, naming the rules that failed, when the
    gate refuses. Promotions, refusals and waivers are written to the journal: see `osteo history`.
    """
    params = context.params  # checked before the registry's modules are imported
    from osteo_models.registry.gate import Waiver
    from osteo_models.registry.gate import promote as promote_version

    try:
        promotion = promote_version(
            context.tracking,
            name,
            version,
            params.gate,
            journal=context.journal,
            author=context.author,
            dry_run=dry_run,
            waivers=[Waiver(rule, reason, by) for rule in waive],
            settings=context.settings,
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
    lines = []
    for result in getattr(verdict, "results", ()):
        mark = "ok  " if result.applies else "n/a "
        if not result.passed:
            mark = (
                "WAIV" if result.waiver else "MORE" if result.missing_evidence else "FAIL"
            )  # MORE: evidence is needed
        lines.append(f"  {mark} {result.rule}: {result.why}")
    options.show(asdict(verdict), lines, as_json)


@click.command()
@click.argument("name")
@options.as_json
@pass_context
def history(context: RunContext, name: str, as_json: bool) -> None:
    """Who promoted, refused, waived or rolled back versions of a model, when and why.

    Exits 1 where the journal was altered.
    """
    from osteo_models.registry.journal import show_history

    shown = show_history(context.journal, name)
    options.show(shown.as_dict(), shown.as_lines(), as_json)
    if shown.faults:
        sys.exit(1)


@click.command()
@click.argument("name")
@click.option("--reason", default="", metavar="TEXT", help="Kept in the journal.")
@options.as_json
@pass_context
def rollback(context: RunContext, name: str, reason: str, as_json: bool) -> None:
    """Make the champion before the present one champion again."""
    from osteo_models.registry.gate import rollback as roll_back

    done = roll_back(context.tracking, name, journal=context.journal, author=context.author, reason=reason)
    text = f"{done.name} version {done.version} is champion again, in place of version {done.replaced}"
    options.show(asdict(done), [text], as_json)


@click.command()
@click.option("--fix", is_flag=True, help="Fix what is safe to fix, and say what was done.")
@options.as_json
@pass_context
def doctor(context: RunContext, fix: bool, as_json: bool) -> None:
    """Say what is wrong with stores, servers, versions, keys, disk, GPU, weights, and what killed commands left.

    One line for each finding, with its remedy; exits 1 where something is wrong, or is left after --fix.
    """
    from osteo_models.ops.doctor import find_problems, fix_problems

    done, left = list[str](), find_problems(context)
    if fix:
        done, left = fix_problems(left)
    findings = [problem.as_dict() for problem in left]
    lines = [*(f"fixed: {line}" for line in done), *map(str, left)] or ["nothing is wrong"]
    options.show({"done": done, "findings": findings} if fix else findings, lines, as_json)
    if left:
        sys.exit(1)


COMMANDS: Final = (promote, history, rollback, doctor)
