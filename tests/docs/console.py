"""Commands in README and docs: blocks ```console with `$ command` lines, each followed by its output.

A line `...` in the output stands for any lines, `...` within a line for any text. Numbers, hashes and class names are
compared in kind. A block after `<!-- not run: REASON -->` is not run; only the syntax of its commands is checked.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^```console\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
VALUE = re.compile(r"\.\.\.|\b[0-9a-f]{8,}\b|[-+]?\d[\d,.:]*|\b(?:control|osteoporosis)\b(?! at )| {2,}")


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        line: Line of the page.
        text: What a user types; may have continuation lines.
        output: Lines that the page shows below it.
        reason: Why it is not run; empty if it is.
    """

    page: Path
    line: int
    text: str
    output: tuple[str, ...]
    reason: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def split(self) -> Iterator[list[str]]:
        """The words of each program that the command starts."""
        words = shlex.split(self.text.replace("\\\n", " "), comments=True)
        while words:
            end = next((index for index, word in enumerate(words) if word in ("&&", ";", "|")), len(words))
            yield words[:end]
            words = words[end + 1 :]


def read_commands(page: Path) -> list[Command]:
    """The commands of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found: list[Command] = []
    for block in FENCE.finditer(text):
        line = text[: block.start("body")].count("\n") + 1
        lines = block["body"].splitlines()
        starts = [index for index, content in enumerate(lines) if content.startswith("$ ")]
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            last = next(index for index in range(start, end) if not lines[index].endswith("\\"))
            command = "\n".join([lines[start].removeprefix("$ "), *lines[start + 1 : last + 1]])
            output = tuple(lines[last + 1 : end])
            found.append(Command(page, line + start, command, output, block["reason"] or ""))
    return found


def find_difference(expected: Sequence[str], output: str) -> str:
    """The first line of the expected output that the output does not have in its place; empty if there is none."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    position, anywhere = 0, not expected
    for line in expected:
        if line == "...":
            anywhere = True
            continue
        pattern = _as_pattern(line)
        ahead = range(position, len(lines)) if anywhere else range(position, min(position + 1, len(lines)))
        match = next((index for index in ahead if pattern.fullmatch(lines[index])), None)
        if match is None:
            return f"expected: {line}\nfound: " + "\n".join(lines[position:])
        position, anywhere = match + 1, False
    return "" if anywhere or position == len(lines) else "not expected: " + "\n".join(lines[position:])


def _as_pattern(line: str) -> re.Pattern[str]:
    parts, end = [], 0
    for value in VALUE.finditer(line.rstrip()):
        parts += [re.escape(line[end : value.start()]), _as_kind(value[0])]
        end = value.end()
    return re.compile("".join(parts) + re.escape(line.rstrip()[end:]))


def _as_kind(value: str) -> str:
    if value == "...":
        return ".*"
    if value.isspace():
        return " +"
    return r"(?:control|osteoporosis)" if value.isalpha() and not re.fullmatch("[0-9a-f]+", value) else r"[-+\w.,:]+"
