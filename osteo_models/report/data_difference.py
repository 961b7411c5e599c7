"""The difference between two revisions of the data set as text and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from osteo_models.data.differences import Difference

MOST_SHOWN: Final = 10
MOST_ON_PAGE: Final = 4
MOVES: Final = {
    "holdout": "moved into or out of the hold-out",
    "patient_test": "moved into or out of the patient test set",
    "fold_image": "moved to another fold of images",
    "fold_patient": "moved to another fold of patients",
}


FIGURES: Final = {  # column, factor, decimals
    "patients": ("patients", 1, 0),
    "images": ("images", 1, 0),
    "osteoporosis (%)": ("osteoporosis_share", 100, 1),
    "women (%)": ("female_share", 100, 1),
    "mean age (years)": ("age_mean_years", 1, 1),
    "SD of age (years)": ("age_sd_years", 1, 1),
}


def list_changes(difference: Difference) -> list[tuple[str, list[str]]]:
    """Every kind of change with the names it concerns, in a fixed order."""
    return [
        ("patients added", difference.patients_added),
        ("patients removed", difference.patients_removed),
        ("images added", difference.images_added),
        ("images removed", difference.images_removed),
        ("labels flipped", difference.labels_flipped),
        ("pixels changed", difference.pixels_changed),
        ("header only changed", difference.header_only),
        ("label maps changed", difference.label_maps_changed),
        *((MOVES[column], images) for column, images in difference.moved.items()),
        *([("moved into the hold-out", difference.into_holdout)] if difference.moved else []),
        ("tables changed", difference.tables_changed),
    ]


def describe_shift(difference: Difference) -> dict[str, list[dict[str, str]]]:
    """Class, sex and age of the patients in the study, before and after, for each modality that either has."""
    sides = {(row["revision"], row["modality"]): row for row in difference.shift}
    shift: dict[str, list[dict[str, str]]] = {}
    for modality in sorted({modality for _, modality in sides}, reverse=True):
        before, after = (sides.get((revision, modality), {}) for revision in ("before", "after"))
        shift[modality] = [
            {"name": name, **_compare(before.get(column), after.get(column), scale, digits)}
            for name, (column, scale, digits) in FIGURES.items()
        ]
    return shift


def _compare(before: float | None, after: float | None, scale: int, digits: int) -> dict[str, str]:
    """A figure before and after, and the change, as shown."""
    shown = ["–" if value is None else f"{scale * value:,.{digits}f}" for value in (before, after)]
    change = "–" if before is None or after is None else f"{scale * after - scale * before:+,.{digits}f}"
    zero = change != "–" and not change.strip("+-0.,")
    return {"before": shown[0], "after": shown[1], "change": "0" if zero else change}


def as_lines(difference: Difference, stale: Sequence[str]) -> list[str]:
    """The difference as plain lines; long lists are cut, the JSON output has them in full."""
    lines = [
        f"{difference.before} (md5 {difference.digest_before}) -> {difference.after} (md5 {difference.digest_after})"
    ]
    if difference.is_empty:
        lines.append("the same data set")
    lines += [f"note: {note}" for note in difference.notes]
    for name, items in list_changes(difference):
        if items:
            more = f" and {len(items) - MOST_SHOWN} more" if len(items) > MOST_SHOWN else ""
            lines.append(f"{name}: {len(items)} ({', '.join(items[:MOST_SHOWN])}{more})")
    for modality, rows in describe_shift(difference).items():
        figures = ", ".join(f"{row['name']} {row['before']} -> {row['after']}" for row in rows)
        lines.append(f"{modality}: {figures}")
    lines += [f"stale: {version}" for version in stale]
    return lines


def as_html(difference: Difference, stale: Sequence[str]) -> str:
    """The difference as one self-contained page."""
    loader = PackageLoader("osteo_models.report")
    page = Environment(autoescape=True, loader=loader, undefined=StrictUndefined).get_template("difference.html.j2")
    return page.render(
        difference=difference,
        changes=list_changes(difference),
        shift=describe_shift(difference),
        stale=stale,
        most=MOST_ON_PAGE,
    )
