"""The difference between two revisions of the data set as text and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from osteo_models.data.differences import Difference

MOST_SHOWN = 10
MOST_ON_PAGE = 4
PLACES = {
    "holdout": "moved into or out of the hold-out",
    "patient_test": "moved into or out of the patient test set",
    "fold_image": "moved to another fold of images",
    "fold_patient": "moved to another fold of patients",
}


@dataclass(frozen=True)
class Row:
    """A figure before and after, as it is shown."""

    name: str
    before: str
    after: str
    change: str


@dataclass(frozen=True)
class Group:
    """The figures of one modality."""

    modality: str
    rows: Sequence[Row]


def list_changes(found: Difference) -> list[tuple[str, list[str]]]:
    """Every kind of change with what it concerns, in a fixed order."""
    return [
        ("patients added", found.patients_added),
        ("patients removed", found.patients_removed),
        ("images added", found.images_added),
        ("images removed", found.images_removed),
        ("labels flipped", found.labels_flipped),
        ("pixels changed", found.pixels_changed),
        ("header only changed", found.header_only),
        ("label maps changed", found.label_maps_changed),
        *((PLACES[column], images) for column, images in found.moved.items()),
        *([("moved into the hold-out", found.into_holdout)] if found.moved else []),
        ("tables changed", found.tables_changed),
    ]


def describe_shift(found: Difference) -> list[Group]:
    """Class, sex and age of those in the study, before and after, for each modality that either has."""
    sides = {(row["revision"], row["modality"]): row for row in found.shift}
    groups: list[Group] = []
    for modality in sorted({modality for _, modality in sides}, reverse=True):
        old, new = (sides.get((revision, modality), {}) for revision in ("before", "after"))
        groups.append(
            Group(
                modality,
                [
                    _row("patients", old, new, "patients", 1, 0),
                    _row("images", old, new, "images", 1, 0),
                    _row("osteoporosis (%)", old, new, "osteoporosis_share", 100, 1),
                    _row("women (%)", old, new, "female_share", 100, 1),
                    _row("mean age (years)", old, new, "age_mean_years", 1, 1),
                    _row("SD of age (years)", old, new, "age_sd_years", 1, 1),
                ],
            )
        )
    return groups


def _row(name: str, old: dict[str, Any], new: dict[str, Any], key: str, scale: int, digits: int) -> Row:
    before, after = (None if side.get(key) is None else scale * side[key] for side in (old, new))
    first, second = ("–" if value is None else f"{value:,.{digits}f}" for value in (before, after))
    change = "–" if before is None or after is None else f"{after - before:+,.{digits}f}"
    return Row(name, first, second, "0" if not change.strip("+-0.,") and change != "–" else change)


def as_lines(found: Difference, stale: Sequence[str]) -> list[str]:
    """The difference as plain lines; long lists are cut, JSON has them whole."""
    lines = [f"{found.before} (md5 {found.digest_before}) -> {found.after} (md5 {found.digest_after})"]
    if found.is_empty:
        lines.append("the same data set")
    lines += [f"note: {note}" for note in found.notes]
    for name, items in list_changes(found):
        if items:
            more = f" and {len(items) - MOST_SHOWN} more" if len(items) > MOST_SHOWN else ""
            lines.append(f"{name}: {len(items)} ({', '.join(items[:MOST_SHOWN])}{more})")
    for group in describe_shift(found):
        figures = ", ".join(f"{row.name} {row.before} -> {row.after}" for row in group.rows)
        lines.append(f"{group.modality}: {figures}")
    lines += [f"stale: {version}" for version in stale]
    return lines


def as_html(found: Difference, stale: Sequence[str]) -> str:
    """The difference as one self-contained page."""
    loader = PackageLoader("osteo_models.report")
    page = Environment(autoescape=True, loader=loader, undefined=StrictUndefined).get_template("difference.html.j2")
    return page.render(
        found=found, changes=list_changes(found), shift=describe_shift(found), stale=stale, most=MOST_ON_PAGE
    )
