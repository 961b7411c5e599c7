"""Tables of the page: cells with a second line, the key that a column is sorted by, and the files they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from osteo_models.report.wording import (
    is_number,
    write_count,
    write_interval,
    write_metric,
    write_number,
    write_row_interval,
)


@dataclass(frozen=True)
class Column:
    """A column; one of words stands to the left."""

    title: str
    text: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: What it shows.
        detail: A smaller second line, such as an interval.
        key: What its column is sorted by; None goes last.
        kind: A class of the style sheet.
        drawing: Shown in place of the text.
    """

    text: str
    detail: str = ""
    key: float | str | None = None
    kind: str = ""
    drawing: Markup | None = None


@dataclass(frozen=True)
class Row:
    """A row; `kind` says whose figures they are, such as "patient" or "paper"."""

    cells: Sequence[Cell]
    kind: str = ""


@dataclass(frozen=True)
class Group:
    """Rows that stay together when a table is sorted, under a title of their own."""

    title: str
    rows: Sequence[Row]
    files: Sequence[str] = ()
    missing: str = ""


@dataclass(frozen=True)
class Table:
    """A table; `name` is its anchor, `files` say where its numbers come from."""

    name: str
    caption: str
    columns: Sequence[Column]
    groups: Sequence[Group]
    files: Sequence[str] = ()

    @property
    def rows(self) -> list[Row]:
        """All rows, whatever group they are in."""
        return [row for group in self.groups for row in group.rows]


def make_table(
    name: str, caption: str, columns: Iterable[str], rows: Iterable[Row | Sequence[Cell]], *, files: Sequence[str] = ()
) -> Table:
    """A table without groups.

    Args:
        columns: Titles; one that starts with "<" is of words.
    """
    heads = [Column(title.removeprefix("<"), title.startswith("<")) for title in columns]
    found = [row if isinstance(row, Row) else Row(list(row)) for row in rows]
    return Table(name, caption, heads, [Group("", found)] if found else [], files)


def word(text: Any, detail: str = "", kind: str = "") -> Cell:
    """A cell of words; nothing is a dash."""
    shown = "–" if text is None or text != text or text == "" else str(text)
    return Cell(shown, detail, shown.lower() if shown != "–" else None, kind)


def count(value: Any) -> Cell:
    """A whole number."""
    return Cell(write_count(value), key=float(value) if is_number(value) else None)


def measure(metric: str, value: Any, low: Any = None, high: Any = None, kind: str = "") -> Cell:
    """A metric with its interval, in the metric's own unit."""
    return Cell(write_metric(metric, value), write_interval(metric, low, high), key_of(value), kind)


def estimate(metric: str, row: Mapping[str, Any]) -> Cell:
    """A metric of a row with its interval, or that there are too few patients for one."""
    value = row.get("value")
    return Cell(write_metric(metric, value), write_row_interval(metric, row), key_of(value))


def number(value: Any, digits: int = 3, *, signed: bool = False, detail: str = "", absent: str = "–") -> Cell:
    """A plain number."""
    return Cell(write_number(value, digits, signed=signed) if is_number(value) else absent, detail, key_of(value))


def source(*files: Any) -> Cell:
    """The predictions files behind a row."""
    names = [str(name).removeprefix("predictions/") for name in files if isinstance(name, str) and name]
    return Cell(", ".join(dict.fromkeys(names)) or "–", key=None, kind="source")


def key_of(value: Any) -> float | None:
    return float(value) if is_number(value) else None
