"""The difference between two revisions of the data set as text and as a page."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment

from osteo_models.data.differences import Difference

MOST_SHOWN = 10

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Data set: {{ found.before }} to {{ found.after }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1f24; }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top;
border-bottom: 1px solid #d5d9e0 } code { font-size: .85em; overflow-wrap: anywhere }
@media (max-width: 40rem) { .wide { overflow-x: auto } }
</style></head><body>
<h1>Data set, from {{ found.before }} to {{ found.after }}</h1>
<p>md5 <code>{{ found.digest_before }}</code> to <code>{{ found.digest_after }}</code></p>
{% for note in found.notes %}<p><strong>{{ note }}</strong></p>{% endfor %}
<h2>Changes</h2>
<div class="wide"><table><tr><th>what</th><th>number</th><th>which</th></tr>
{% for name, items in changes %}<tr><td>{{ name }}</td><td>{{ items|length }}</td><td>{{ items|join(", ") }}</td></tr>
{% endfor %}</table></div>
{% if found.shift %}<h2>People</h2><div class="wide"><table>
<tr>{% for name in found.shift[0] %}<th>{{ name.replace("_", " ") }}</th>{% endfor %}</tr>
{% for row in found.shift %}<tr>{% for value in row.values() %}<td>{{ value }}</td>{% endfor %}</tr>{% endfor %}
</table></div>{% endif %}
<h2>Model versions made from other data</h2>
{% if stale %}<ul>{% for version in stale %}<li>{{ version }}</li>{% endfor %}</ul>{% else %}<p>None.</p>{% endif %}
</body></html>
"""


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
        *((f"moved: {column}", images) for column, images in found.moved.items()),
        ("moved into the hold-out", found.into_holdout),
        ("tables changed", found.tables_changed),
    ]


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
    for row in found.shift:
        lines.append(
            f"{row['revision']:<6} {row['modality']}: {row['patients']} patients, {row['images']} images, "
            f"osteoporosis {100 * row['osteoporosis_share']:.1f} %, female {100 * row['female_share']:.1f} %, "
            f"age {row['age_mean_years']} +- {row['age_sd_years']}"
        )
    lines += [f"stale: {version}" for version in stale]
    return lines


def as_html(found: Difference, stale: Sequence[str]) -> str:
    """The difference as one self-contained page."""
    page = Environment(autoescape=True).from_string(PAGE)
    return page.render(found=found, changes=list_changes(found), stale=stale)
