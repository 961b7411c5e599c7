"""Put the page together: read artifacts/, make the sections, fill the template, write one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from osteo_models.report import cohort, headline, sections, tables, wording
from osteo_models.report.evidence import HERE, read_evidence

TEMPLATES: Final = HERE / "templates"


def build_report(
    artifacts: Path,
    out: Path,
    *,
    provenance: Mapping[str, str],
    params: Mapping[str, Any],
    synthetic: bool,
    left_out: Sequence[str],
    versions: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Write the report as one HTML file that needs nothing else.

    The same artifacts give the same bytes: there is no date on the page but what `provenance` brings.

    Args:
        artifacts: The folder that the DVC stages write to; what is missing in it is shown as missing.
        out: The file to write; it appears whole or not at all.
        provenance: What the numbers were made with, such as commit, data hash, versions.
        params: params.yaml as it was used.
        synthetic: Whether the data is a phantom: every page from it says so.
        left_out: What the profile leaves out of the paper's protocol, a sentence each.
        versions: Registered versions as they stand now; None takes those of register.json.

    Returns:
        `out`.

    Raises:
        InputError: No evaluation in `artifacts`, or a file there that cannot be read.
        StaleDataError: The images and their table do not belong together.
    """
    evidence = read_evidence(artifacts)
    if versions is not None:
        evidence = replace(evidence, versions=[dict(version) for version in versions])
    bars = headline.build_bars(evidence)
    page = _load_template().render(
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        synthetic=synthetic,
        profile=str(params.get("profile", "")),
        left_out=list(left_out),
        provenance=dict(provenance),
        params=list(flatten_params(params)),
        missing=evidence.missing,
        bars=bars,
        scale=headline.choose_scale(bars),
        findings=headline.write_findings(evidence, bars),
        versions=sections.build_versions(evidence),
        stages=tables.build_stage_tables(evidence),
        patient_levels=tables.build_patient_levels(evidence),
        optimism=sections.build_optimism(evidence),
        roc=sections.build_roc_panels(evidence),
        learning=sections.build_learning_panels(evidence),
        scores=sections.build_score_table(evidence),
        delong=sections.build_delong_table(evidence),
        groups=cohort.build_groups(evidence),
        samples=cohort.build_samples(evidence),
        patients=cohort.build_patients(evidence),
        extremes=cohort.build_extremes(evidence),
        costs=sections.build_costs(evidence),
        words=wording,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_suffix(".partial")
    draft.write_text(page, encoding="utf-8")
    draft.replace(out)
    return out


def flatten_params(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values, such as ("experiments.epochs", "20")."""
    for name, value in params.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flatten_params(value, f"{path}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value):
                nested = item if isinstance(item, Mapping) else {"value": item}
                yield from flatten_params(nested, f"{path}[{number}].")
        elif isinstance(value, (list, tuple)):
            yield path, ", ".join(str(item) for item in value)
        else:
            yield path, "–" if value is None else str(value)


def _load_template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")
