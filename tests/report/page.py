"""A page of HTML as the tests see it."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """Text, ids, links, headings and tags of a page; tags that do not match fail at once."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.tags, self.words = [], [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        if "href" in found:
            self.links.append(found["href"])
        if tag == "img":
            self.images.append(found)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    def find(self, tag):
        """The attributes of every tag of a kind."""
        return [found for name, found in self.tags if name == tag]

    @property
    def headings(self):
        return [int(tag[1]) for tag, _ in self.tags if re.fullmatch(r"h[1-6]", tag)]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))
