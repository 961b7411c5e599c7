"""Cells of the page's tables as markup; `data-key` is what a column is sorted by, cells without one go last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from osteo_models.report.wording import (
    UNDEFINED,
    is_number,
    name_network,
    write_count,
    write_difference,
    write_difference_interval,
    write_interval,
    write_metric,
    write_number,
    write_p,
    write_row_interval,
    write_signed,
)


def cell(text: Any, key: Any = None, detail: str = "", kind: str = "") -> Markup:
    """A cell with a smaller second line, such as an interval.

    Args:
        key: Sort key: text or a finite number.
        kind: Classes of the style sheet.
    """
    return _element("td", f' class="{escape(kind)}"' if kind else "", text, key, detail)


def _element(tag: str, attributes: str, text: Any, key: Any, detail: str) -> Markup:
    sorted_by = f' data-key="{escape(key)}"' if isinstance(key, str) or is_number(key) else ""
    second = f'<span class="ci">{escape(detail)}</span>' if detail else ""
    return Markup(f"<{tag}{attributes}{sorted_by}>{escape(text)}{second}</{tag}>")  # every value is escaped


def head(value: Any, detail: str = "", mark: str = "") -> Markup:
    """The first cell of a row; `mark` is the class of a coloured mark before the text."""
    text = _text(value)
    symbol = Markup('<span class="mark {}" aria-hidden="true"></span>').format(mark) if mark else ""
    return _element("th", ' scope="row"', symbol + escape(text), text.lower() if text != "–" else None, detail)


def network(row: Mapping[str, Any]) -> Markup:
    """The first cell of a row about a network."""
    return head(name_network(row["architecture"], row["images"]))


def word(value: Any, detail: str = "", kind: str = "") -> Markup:
    """A cell of words; an empty value is a dash."""
    text = _text(value)
    return cell(text, text.lower() if text != "–" else None, detail, f"text {kind}".strip())


def _text(value: Any) -> str:
    return "–" if value is None or value != value or value == "" else str(value)


def yes(value: Any) -> Markup:
    """A cell that says yes for 1 or True, no otherwise."""
    return word("yes" if value == 1 else "no")


def count(value: Any) -> Markup:
    """A whole number."""
    return cell(write_count(value), _key(value))


def number(value: Any, digits: int = 3, absent: str = "–", detail: str = "") -> Markup:
    """A plain number; `absent` where there is none."""
    return cell(write_number(value, digits) if is_number(value) else absent, _key(value), detail)


def metric(name: str, value: Any, low: Any = None, high: Any = None) -> Markup:
    """A metric with its interval, in the metric's own unit."""
    return cell(write_metric(name, value), _key(value), write_interval(name, low, high))


def estimate(name: str, row: Mapping[str, Any], kind: str = "", absent: str = "") -> Markup:
    """`value` of a row of a metric with its interval, or "too few patients"; `absent` stands for no interval."""
    value = row.get("value")
    return cell(write_metric(name, value), _key(value), write_row_interval(name, row) or absent, kind)


def difference(name: str, value: Any, low: Any, high: Any, absent: str = "interval undefined") -> Markup:
    """A difference of a metric with its interval; `absent` stands for an interval that does not exist."""
    interval = write_difference_interval(name, low, high)
    return cell(write_difference(name, value), _key(value), interval or absent)


def delong_difference(row: Mapping[str, Any]) -> Markup:
    """The difference of two AUCs of DeLong's test, or why it is undefined."""
    if row["ci_low"] == row["ci_high"] == 0:
        return cell(write_signed(row["difference"]), _key(row["difference"]), "identical curves")
    note = row["note"] if isinstance(row["note"], str) and row["note"] else UNDEFINED
    return difference("roc_auc", row["difference"], row["ci_low"], row["ci_high"], note)


def signed(value: Any) -> Markup:
    """A number with its sign, such as z."""
    return cell(write_signed(value), _key(value))


def p_value(value: Any) -> Markup:
    """A p value."""
    return cell(write_p(value), _key(value))


def sizes(positive: Any, negative: Any, key: Any = None) -> Markup:
    """Numbers of osteoporosis and control images."""
    has_counts = is_number(positive) and is_number(negative)
    text = f"{write_count(positive)} + {write_count(negative)}" if has_counts else "–"
    return cell(text, _key(positive if key is None else key))


def drawing(markup: Markup | None, key: Any = None) -> Markup:
    """A drawing, a dash without one."""
    return cell(markup or "–", _key(key), kind="text")


def source(*files: Any) -> Markup:
    """The predictions files behind a row."""
    names = dict.fromkeys(str(name).removeprefix("predictions/") for name in files if isinstance(name, str) and name)
    spans = Markup("").join(Markup('<span class="source file">{}</span>').format(name) for name in names or ["–"])
    return cell(spans, kind="text source")


def _key(value: Any) -> float | None:
    return float(value) if is_number(value) else None
