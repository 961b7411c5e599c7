"""The page for everybody: colours that can be read, headings in order, tables that a keyboard sorts, paper."""

import re

import pytest

from osteo_models.report import build_report
from osteo_models.report.build import TEMPLATES
from tests.conftest import STAGES
from tests.report.page import Page

STYLE = (TEMPLATES / "report.css").read_text(encoding="utf-8")
PRINT = (TEMPLATES / "print.css").read_text(encoding="utf-8")
SCRIPT = (TEMPLATES / "sort.js").read_text(encoding="utf-8")


def read_colours(block):
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})\b", block))


LIGHT = read_colours(STYLE.split("@media (prefers-color-scheme: dark)")[0])
DARK = LIGHT | read_colours(STYLE.split("@media (prefers-color-scheme: dark)")[1].split("* {")[0])
PAPER = LIGHT | read_colours(PRINT)


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """WCAG 2's ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="module")
def page(artifacts, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "index.html"
    build_report(artifacts, out, STAGES, provenance={}, params={}, synthetic=True, left_out=[])
    return Page(out.read_text(encoding="utf-8"))


def test_the_formula_knows_black_on_white():
    assert contrast("#000000", "#fff") == pytest.approx(21)


@pytest.mark.parametrize("colours", [LIGHT, DARK, PAPER], ids=["light", "dark", "print"])
def test_words_can_be_read(colours):
    for ink in ("ink", "muted", "patient", "image", "printed", "good", "bad"):
        for ground in ("paper", "sheet"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["warn-ink"], colours["warn"]) >= 4.5


@pytest.mark.parametrize("colours", [LIGHT, DARK, PAPER], ids=["light", "dark", "print"])
def test_marks_can_be_seen(colours):
    for mark in ("control", "osteoporosis", "patient", "image", "other"):
        assert contrast(colours[mark], colours["paper"]) >= (3 if mark != "other" else 2), mark


def test_every_colour_is_told_for_the_dark():
    assert set(read_colours(STYLE.split("@media (prefers-color-scheme: dark)")[1].split("* {")[0])) == set(LIGHT)


def test_text_is_never_see_through():
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", STYLE)
    faint = [selector.strip() for selector, body in rules if "opacity" in body]
    assert faint and [selector for selector in faint if "svg" not in selector and ".range" not in selector] == []


def test_language_title_and_way_past_the_contents(page):
    assert page.find("html") == [{"lang": "en"}]
    assert page.links[0] == "#verdicts"
    assert page.find("meta")[1]["content"] == "width=device-width, initial-scale=1"
    assert [found["aria-label"] for found in page.find("nav")] == ["Contents"]


def test_headings_descend_one_step_at_a_time(page):
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1 and len(page.headings) > 10
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))


def test_pictures_and_drawings_speak(page):
    drawings = page.find("svg")
    assert len(page.images) > 20 and len(drawings) > 40
    assert all(image.get("alt") for image in page.images)
    assert all(found.get("role") == "img" and found.get("aria-label") for found in drawings)


def test_tables_have_captions_heads_and_a_box_that_a_keyboard_scrolls(page):
    tables = [found for found in page.find("table") if "plain" in found.get("class", "")]
    assert len(tables) > 20
    boxes = [found for found in page.find("div") if found.get("class") == "scroll"]
    heads = page.find("th")
    assert len(boxes) >= len(tables) and len(heads) > 100
    assert all(box["tabindex"] == "0" and box["aria-labelledby"] in page.ids for box in boxes)
    assert all(found.get("scope") for found in heads)


def test_sorting_has_keys_and_tells_its_state(page):
    keys = [found["data-key"] for _, found in page.tags if "data-key" in found]
    assert len(keys) > 500
    assert "undefined" not in keys
    assert "nan" not in keys
    assert 'createElement("button")' in SCRIPT
    assert '"aria-sort"' in SCRIPT
    assert "http" not in SCRIPT


def test_the_page_can_be_read_without_its_script(page):
    assert not [found for _, found in page.tags if "hidden" in found or found.get("style", "").startswith("display")]


def test_print_hides_the_contents_and_opens_what_is_folded():
    assert re.search(r"nav, \.skip \{ display: none; \}", PRINT)
    assert "details::details-content { content-visibility: visible; display: block; block-size: auto; }" in PRINT
    assert re.search(r"figure, tr, [^{]*\{ break-inside: avoid; \}", PRINT)
    assert ".scroll { overflow: visible; }" in PRINT


def test_nothing_comes_from_the_network():
    for text in (STYLE, PRINT, SCRIPT):
        assert "url(" not in text
        assert "@import" not in text
        assert "//" not in re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)
