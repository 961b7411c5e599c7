"""A page of HTML as the tests see it."""

import re
from dataclasses import dataclass
from html.parser import HTMLParser

from osteo_models.report.build import SECTIONS, render_section

VOID = {"meta", "br", "img", "link", "hr", "input"}


@dataclass
class Cell:
    """A cell of a table; `detail` is its second line, `key` what its column is sorted by."""

    key: str | None
    kind: str
    is_head: bool
    text: str = ""
    detail: str = ""
    drawing: bool = False

    def add(self, words, in_detail):
        if in_detail:
            self.detail += words
        else:
            self.text = f"{self.text} {words.strip()}".strip()


@dataclass
class Row:
    """A row of a table; `kind` is its class, such as "paper" or "group"."""

    kind: str
    cells: list[Cell]

    @property
    def texts(self):
        return [cell.text for cell in self.cells]


class Page(HTMLParser):
    """Text, ids, links, headings and tags of a page; tags that do not match fail at once."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.tags, self.words = [], [], [], [], [], []
        self.tables, self.cell, self.in_detail = {}, None, False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        self.start_table(tag, found)
        if "id" in found:
            self.ids.append(found["id"])
        if "href" in found:
            self.links.append(found["href"])
        if tag == "img":
            self.images.append(found)

    def start_table(self, tag, found):
        if tag == "table":
            self.tables[found.get("id")] = self.rows = []
        elif tag == "tr":
            self.rows.append(Row(found.get("class", ""), []))
        elif tag in ("th", "td"):
            self.cell = Cell(found.get("data-key"), found.get("class", ""), "scope" in found)
            self.rows[-1].cells.append(self.cell)
        elif tag == "span":
            self.in_detail = found.get("class") == "ci"
        elif self.cell is not None and tag == "svg":
            self.cell.drawing = True

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("th", "td"):
            self.cell = None
        elif tag == "span":
            self.in_detail = False

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)
        if self.cell is not None:
            self.cell.add(data, self.in_detail)

    def find(self, tag):
        """The attributes of every tag of a kind."""
        return [found for name, found in self.tags if name == tag]

    @property
    def headings(self):
        return [int(tag[1]) for tag, _ in self.tags if re.fullmatch(r"h[1-6]", tag)]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def read_section(data, name):
    """A section of the page."""
    section = next(section for section in SECTIONS if section.name == name)
    return Page(f"<main>{render_section(section, data)}</main>")


def read_table(data, section, name):
    """The rows of a table in a section, without its titles."""
    return read_section(data, section).tables[name][1:]
