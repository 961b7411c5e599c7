"""The command line's help as a page: `python -m tests.contracts.cli_help --write` brings docs/cli.md up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from osteo_models.cli.main import main
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "cli.md"


def walk(command: click.Command, context: click.Context) -> Iterator[str]:
    """A section for a command and for each of its subcommands."""
    yield f"## `{context.command_path}`\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            yield from walk(child, click.Context(child, info_name=name, parent=context))


def render() -> str:
    """The whole page."""
    context = click.Context(main, info_name="osteo", terminal_width=100, max_content_width=100)
    head = "# The `osteo` command\n\nMade by `make docs` from the program itself.\n\n"
    return head + "\n".join(walk(main, context))


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(render(), encoding="utf-8")
    else:
        sys.stdout.write(render())
