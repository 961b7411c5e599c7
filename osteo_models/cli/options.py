"""What several commands share: their run context, options, and how they print."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click

from osteo_models.core.terms import MODALITIES
from osteo_models.registry.run_context import RunContext

FOLDER: Final = click.Path(path_type=Path)

pass_context = click.make_pass_decorator(RunContext, ensure=True)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
modality = click.option(
    "--modality", type=click.Choice(list(MODALITIES)), help="Of PNG and JPEG files, which do not say it."
)
model = click.option("--model", required=True, help="NAME@alias or NAME/version, such as osteo-multimodal@champion.")


def show(content: Any, lines: Iterable[str], as_json: bool) -> None:
    """Print the content as JSON, or the lines."""
    for line in [json.dumps(content, default=str)] if as_json else lines:
        click.echo(line)
