"""Put the page together: read artifacts/, make the sections one by one, fill their templates, write one file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from osteo_models.core.files import write_atomically
from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import stage_number
from osteo_models.report import wording
from osteo_models.report.report_data import HERE, Evidence, Facts, read_evidence
from osteo_models.report.sections import (
    audits,
    checklist,
    cohort,
    confusion,
    costs,
    curves,
    explanations,
    headline,
    learning,
    paper_tables,
    patients,
    provenance,
    search_results,
    stages,
    verdicts,
)
from osteo_models.report.sections import model_versions as versions

TEMPLATES: Final = HERE / "templates"


@dataclass(frozen=True)
class Section:
    """A section: its anchor is also the name of its template; `{stages}` in its title are their numbers."""

    name: str
    title: str
    build: Callable[[Evidence, Facts], dict[str, Any]]


SECTIONS: Final = (
    Section("verdicts", "In short", verdicts.build),
    Section("headline", "Results at a glance", headline.build),
    Section("versions", "Registered models and the gate", versions.build),
    Section("stages", "Stages {stages}, beside the paper", stages.build),
    Section("paper", "Other tables of the paper, and its ledger", paper_tables.build),
    Section("curves", "ROC and calibration", curves.build),
    Section("confusion", "Confusion matrices", confusion.build),
    Section("patients", "Patient by patient", patients.build),
    Section("audits", "Audits", audits.build),
    Section("explanations", "Explanations", explanations.build),
    Section("search", "Architecture search", search_results.build),
    Section("costs", "Costs", costs.build),
    Section("learning", "Learning curves", learning.build),
    Section("cohort", "Cohort", cohort.build),
    Section("checklist", "Reporting checklist", checklist.build),
    Section("provenance", "Provenance", provenance.build),
)


def build_report(
    artifacts: Path,
    out: Path,
    table: StageTable,
    *,
    provenance: Mapping[str, str],
    params: Mapping[str, Any],
    synthetic: bool,
    left_out: Sequence[str],
    versions: Sequence[Mapping[str, Any]] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Path:
    """Write the report as one HTML file that needs nothing else.

    The same artifacts give the same bytes but for the times of building: there is no date on the page but what
    `provenance` brings.

    Args:
        artifacts: The folder that the DVC stages write to; what is missing in it is shown as missing.
        out: The file to write; it appears whole or not at all.
        table: The stages.
        provenance: What the numbers were made with, such as commit, data hash, versions.
        params: params.yaml as it was used.
        synthetic: Whether the data is a phantom: every page from it says so.
        left_out: What the profile leaves out of the paper's protocol, a sentence each.
        versions: Registered versions as they stand now, each with what the gate found; None takes register.json's.
        clock: Gives seconds; the time of each section stands in the page.

    Returns:
        `out`.

    Raises:
        InputError: No evaluation in `artifacts`, or a file there that cannot be read.
        StaleDataError: The images and their table do not belong together.
    """
    started = clock()
    evidence = read_evidence(artifacts, table)
    if versions is not None:
        evidence = replace(evidence, versions=[dict(version) for version in versions])
    facts = Facts(dict(provenance), params, synthetic, list(left_out), {"reading the files": clock() - started})
    page = render_page(
        "report.html.j2",
        sections=list(_render_sections(evidence, facts, clock)),
        synthetic=synthetic,
        profile=facts.profile,
        provenance=facts.provenance,
        left_out=facts.left_out,
    )
    return write_page(out, page)


def _render_sections(evidence: Evidence, facts: Facts, clock: Callable[[], float]) -> list[tuple[Section, Markup]]:
    environment = _load_templates()
    rendered: list[tuple[Section, Markup]] = []
    numbers = wording.number_stages(evidence.stages.names)
    for plain in SECTIONS:
        section, started = replace(plain, title=plain.title.format(stages=numbers)), clock()
        template = environment.get_template(f"{section.name}.html.j2")
        html = template.render(section.build(evidence, facts), words=wording, stage_table=evidence.stages)
        rendered.append((section, Markup(html)))  # the template has escaped what it was given
        facts.seconds[section.title] = clock() - started
    return rendered


def render_page(template: str, **content: Any) -> str:
    """A whole page with its style sheet and script."""
    read = {
        name: Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("report.css", "print.css", "sort.js")
    }
    style = read["report.css"] + read["print.css"]
    return _load_templates().get_template(template).render(content, style=style, script=read["sort.js"], words=wording)


def write_page(out: Path, page: str) -> Path:
    """Write a page whole or not at all."""
    return write_atomically(out, page)


def _load_templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["stage_number"] = stage_number
    return environment
