"""What words of a header mean, by a table that a site can extend (`data.words` in params.yaml)."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

TABLE: Final = Path(__file__).with_name("header_words.csv")
Verdict = Literal["lumbar", "other", "unclear", "silent"]
SiteWords = tuple[tuple[str, tuple[str, ...]], ...]  # meaning, its further words


@lru_cache(maxsize=4096)  # the texts of a series repeat
def find_meanings(text: str, site_words: SiteWords = ()) -> frozenset[str]:
    """The meanings of the words in a text, whatever its case, accents and separators.

    An entry of the table is a whole word, or the beginning of one where it ends in `*`; `-` in it is any separator.
    """
    plain = re.sub(r"[^a-z0-9]+", " ", _fold(text))
    return frozenset(meaning for meaning, pattern in _compile(site_words).items() if pattern.search(f" {plain} "))


def _fold(text: str) -> str:
    """Small letters without accents."""
    apart = unicodedata.normalize("NFKD", text.casefold().replace("ı", "i"))
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


def judge_body_part(texts: Sequence[str], site_words: SiteWords = (), *, coded: str = "") -> Verdict:
    """Whether a header is of the lumbar spine.

    Args:
        texts: Descriptions, each of which may have any other content.
        site_words: Further words.
        coded: Text of the attribute that holds nothing but the body part: an unknown word in it is `unclear`.
    """
    each = [find_meanings(text, site_words) for text in (coded, *texts)]
    parts = {part for meanings in each if (part := _name_part(meanings))}
    if parts & {"other", "other_spine"}:
        contradicted = "lumbar" in parts or ("other" in parts and bool(parts & {"spine", "trunk"}))
        return "unclear" if contradicted else "other"
    if coded.strip() and not _name_part(each[0]) and "lumbar" not in parts:
        return "unclear"
    return "lumbar" if parts else "silent"


def _name_part(meanings: frozenset[str]) -> str:
    """The body part of one text; a text with several is of the part that holds the lumbar spine."""
    if "lumbar" in meanings:
        return "lumbar"
    if "other_spine" in meanings and "trunk" not in meanings:
        return "other_spine"
    return next((part for part in ("trunk", "spine", "other") if part in meanings), "")


@lru_cache(maxsize=4)
def _compile(site_words: SiteWords) -> Mapping[str, re.Pattern[str]]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        words = {row["meaning"]: row["words"].split() for row in csv.DictReader(file)}
    for meaning, further in site_words:
        words[meaning] = [*words.get(meaning, []), *further]
    return {meaning: _pattern(entries) for meaning, entries in words.items()}


def _pattern(entries: Iterable[str]) -> re.Pattern[str]:
    words = (re.sub(r"[^a-z0-9*]+", " ?", _fold(entry)).replace("*", r"\w*") for entry in entries)
    return re.compile(f" (?:{'|'.join(words)}) ")
