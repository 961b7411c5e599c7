"""MkDocs hooks: pages that are generated from the program, from params.yaml, CHANGELOG.md and the tutorial notebook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    pages = {
        "tutorial.md": render_notebook(ROOT / "docs" / "tutorial.ipynb"),
        "reference/params.md": render_params(ROOT / "params.yaml"),
        "reference/names.md": render_names(),
        "changelog.md": changes.replace("](docs/", "]("),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Remove click's placeholder for "no default" from the reference of the command line."""
    return html.replace("<code>Sentinel.UNSET</code>", "")


def render_notebook(path: Path) -> str:
    """A notebook as Markdown: text, code and text outputs."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            parts.append(f"```text\n{''.join(text).rstrip()}\n```")
    link = f"This page is a notebook: [{path.name}]({path.name}). A test runs it on a small synthetic project."
    return "\n\n".join([parts[0], link, *parts[1:]]) + "\n"


def render_params(path: Path) -> str:
    """params.yaml, one section per key, with the comments in it."""
    text = path.read_text(encoding="utf-8")
    head = "# params.yaml\n\nThe file that a user edits. `osteo params` checks it and prints the values in force.\n"
    parts = [head]
    for block, key in re.findall(r"((?:^#.*\n)*^([a-z_]+):.*\n(?:^(?: .*)?\n)*)", text, re.MULTILINE):
        parts.append(f"## {key}\n\n```yaml\n{block.strip()}\n```\n")
    return "\n".join(parts)


def render_names() -> str:
    """Metrics, tags, gate rules, exit codes and environment variables."""
    lines = ["# Metrics, tags, rules and variables", "", *_list_metrics(), *_list_tags(), *_list_rules()]
    return "\n".join([*lines, *_list_variables(), *_list_exit_codes()]) + "\n"


def _list_metrics() -> Iterator[str]:
    from osteo_models.evaluation import summarize

    stages = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["stages"]
    described = _read_reference("metrics.yaml")
    example = summarize([0, 1] * 12, [0.2, 0.3, 0.6, 0.9] * 6, patient_id=list(range(24)))
    names = {name for name in example.flatten() if "." not in name}
    if names != set(described):
        raise PluginError(f"docs/reference/metrics.yaml and the program differ: {sorted(names ^ set(described))}")
    yield "## Metrics"
    yield ""
    yield "In MLflow and in the files of `artifacts/evaluation/metrics/`, a metric is named by its stage and protocol:"
    yield "`<stage>.<protocol>.<metric>`, with `.ci_low` and `.ci_high` for its 95 % interval. How intervals are made:"
    yield "[Statistics](../statistics.md)."
    yield ""
    yield f"Stages in `params.yaml`: {', '.join(f'`{name}`' for name in stages)} (in MLflow `stage_1`, ...). Protocols:"
    yield "`image`, `patient`."
    yield ""
    yield from _as_table(("Name", "Meaning"), [(f"`{name}`", text) for name, text in described.items()])


def _read_reference(name: str) -> dict[str, str]:
    return yaml.safe_load((ROOT / "docs" / "reference" / name).read_text(encoding="utf-8"))


def _list_tags() -> Iterator[str]:
    tags = _read_reference("tags.yaml")
    yield "## Tags in MLflow"
    yield ""
    yield from _as_table(("Tag", "On", "Meaning"), [(f"`{name}`", *text.split(": ", 1)) for name, text in tags.items()])


def _list_rules() -> Iterator[str]:
    from osteo_models.registry.rules import RULES

    gate = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["gate"]
    rows = []
    for name, rule in RULES.items():
        options = {key for entry in gate if entry["rule"] == name for key in entry if key != "rule"}
        rows.append((f"`{name}`", _first_line(rule), ", ".join(f"`{key}`" for key in sorted(options))))
    yield "## Rules of the gate"
    yield ""
    yield from _as_table(("Rule", "Meaning", "Options in params.yaml"), rows)


def _first_line(thing: Any) -> str:
    function = getattr(thing, "check", None) or getattr(thing, "judge", None) or thing
    return " ".join((function.__doc__ or "").strip().split("\n\n")[0].split())


def _list_variables() -> Iterator[str]:
    variables = _read_reference("variables.yaml")
    yield "## Environment variables"
    yield ""
    yield "The variables of the tools themselves are honoured: `MLFLOW_TRACKING_URI`, `PREFECT_API_URL`, `RAY_ADDRESS`,"
    yield "`AWS_*`, `HF_HOME`. Unset, everything is embedded in `mlflow.db` and `.osteo/`."
    yield ""
    yield from _as_table(("Variable", "Meaning"), [(f"`{name}`", text) for name, text in variables.items()])


def _list_exit_codes() -> Iterator[str]:
    yield "## Exit codes"
    yield ""
    rows = [
        ("0", "done"),
        ("1", "failed"),
        ("2", "wrong input or usage"),
        ("3", "promotion refused"),
        ("130", "Ctrl-C"),
    ]
    yield from _as_table(("Code", "Meaning"), rows)


def _as_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    for row in (head, ("---",) * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""
