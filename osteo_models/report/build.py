"""Builds the page: reads artifacts/, makes the sections, fills their templates, writes one file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from osteo_models.core.files import write_atomically
from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import stage_number
from osteo_models.report import html_cells, wording
from osteo_models.report.report_data import ReportData, Run, read_report_data
from osteo_models.report.sections import (
    audits,
    checklist,
    cohort,
    costs,
    curves,
    explanations,
    headline,
    patients,
    stages,
    verdicts,
)
from osteo_models.report.sections import model_versions as versions

TEMPLATES: Final = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """A section: its name is its anchor and its template; `{stages}` in the title becomes their numbers."""

    name: str
    title: str
    build: Callable[[ReportData], dict[str, Any]]


SECTIONS: Final = (
    Section("verdicts", "In short", verdicts.build),
    Section("headline", "Results at a glance", headline.build),
    Section("versions", "Registered models and the gate", versions.build),
    Section("stages", "Stages {stages}, with the paper's figures", stages.build),
    Section("paper", "Other tables of the paper, and its ledger", stages.build_paper_tables),
    Section("curves", "ROC and calibration", curves.build),
    Section("confusion", "Confusion matrices", stages.build_confusion),
    Section("patients", "Patient by patient", patients.build),
    Section("audits", "Audits", audits.build),
    Section("explanations", "Explanations", explanations.build),
    Section("search", "Architecture search", costs.build_search),
    Section("costs", "Costs", costs.build),
    Section("learning", "Learning curves", curves.build_learning),
    Section("cohort", "Cohort", cohort.build),
    Section("checklist", "Reporting checklist", checklist.build),
    Section("provenance", "Provenance", checklist.build_provenance),
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
    """Write the report as one self-contained HTML file.

    The same artifacts give the same bytes except for the build times; the only dates are those in `provenance`.

    Args:
        artifacts: Output folder of the DVC stages; missing files are listed on the page.
        out: The file to write, atomically.
        table: The stages.
        provenance: What the numbers were made with, such as commit, data hash, versions.
        params: params.yaml as it was used.
        synthetic: Whether the data is a phantom; the page then says so.
        left_out: What the profile leaves out of the paper's protocol, one sentence each.
        versions: Registered versions with their current aliases; None takes those of register.json.
        clock: Time in seconds, for the build time of each section.

    Returns:
        `out`.

    Raises:
        InputError: No evaluation in `artifacts`, or a file there that cannot be read.
        StaleDataError: The images and their table do not belong together.
    """
    started = clock()
    run = Run(dict(provenance), params, synthetic, list(left_out))
    data = read_report_data(
        artifacts, table, run, None if versions is None else [dict(version) for version in versions]
    )
    data.seconds["reading the files"] = clock() - started
    page = render_page("report.html.j2", sections=list(_render_sections(data, clock)), run=run, synthetic=synthetic)
    return write_atomically(out, page)


def _render_sections(data: ReportData, clock: Callable[[], float]) -> list[tuple[Section, Markup]]:
    rendered: list[tuple[Section, Markup]] = []
    numbers = wording.number_stages(data.stages.names)
    for plain in SECTIONS:
        section, started = replace(plain, title=plain.title.format(stages=numbers)), clock()
        rendered.append((section, render_section(section, data)))
        data.seconds[section.title] = clock() - started
    return rendered


def render_section(section: Section, data: ReportData) -> Markup:
    """The content of a section as markup."""
    template = _load_templates().get_template(f"{section.name}.html.j2")
    return Markup(template.render(section.build(data), stage_table=data.stages))  # the template escapes its input


def render_page(template: str, **content: Any) -> str:
    """A whole page with its style sheet and script."""
    style, print_style, script = (
        Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("report.css", "print.css", "sort.js")
    )
    return _load_templates().get_template(template).render(content, style=style + print_style, script=script)


@cache
def _load_templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"stage_number": stage_number, "architecture": wording.name_architecture}
    environment.globals |= {"words": wording, "cell": html_cells}
    return environment
