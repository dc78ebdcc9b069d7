"""Terms that the user lists, found in texts."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foldstack.encoding import decodes, failing_line
from foldstack.errors import InputError, cut
from foldstack.rows import normalise

# Thai to Burmese, Khmer, kana, Han: scripts without spaces between words.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
SPACED = rf"[^\W{UNSPACED}]"
SAME_WORD = re.compile(rf"{SPACED}{{2}}")  # one goes through between these two characters
HEADERS = (["keyword"], ["keyword", "category"])


@dataclass(frozen=True)
class Found:
    """Keywords of n texts: (n,) counts per text, and the keywords of all texts in order."""

    counts: np.ndarray
    words: list[str]


def find_terms(texts: Sequence[str], terms: Sequence[str]) -> Found:
    """Return the listed terms that occur in each text, once each, in order of occurrence.

    Terms match whole words, except in scripts without spaces. Width and case are ignored.
    """
    places = TermPlaces(terms)
    counts, words = [], []
    for text in texts:
        found = places.found(text)
        counts.append(len(found))
        words += found
    return Found(np.array(counts, dtype=np.int64), words)


class TermPlaces:
    """Look-up of listed terms at the places of a text where one may begin.

    The time that a text takes does not grow with the number of terms.
    """

    def __init__(self, terms: Sequence[str]):
        self.listed = {normalise((term,)): term for term in terms}
        lengths: dict[str, set[int]] = {}
        for form in self.listed:
            lengths.setdefault(form[0], set()).add(len(form))
        self.lengths = {first: sorted(some) for first, some in lengths.items()}
        firsts = "".join(map(re.escape, self.lengths))
        self.begins = re.compile(rf"[{firsts}](?<!{SPACED}{SPACED})" if firsts else r"(?!)")

    def found(self, text: str) -> list[str]:
        """Return the terms of a text, once each, in order of occurrence."""
        text = normalise((text,))
        found: dict[str, None] = {}
        for match in self.begins.finditer(text):
            at = match.start()
            for length in self.lengths[match[0]]:
                form = text[at : at + length]
                if form in self.listed and not SAME_WORD.match(text, at + length - 1):
                    found.setdefault(form)
        return [self.listed[form] for form in found]


def read_keywords(path: Path) -> dict[str, str]:
    """Return the category of each keyword of a file; '' if it has none.

    A line is a keyword, or `keyword,category` as CSV without a header, or with `keyword,category`.

    Raises:
        InputError: the file is empty, not UTF-8 or no CSV, or lists a keyword twice.
    """
    data = path.read_bytes()
    if not decodes(data, "utf-8"):
        line = failing_line(data, "utf-8")
        raise InputError(f"{path}, line {line}, is not UTF-8: save the file as UTF-8")
    lines = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    found: dict[str, str] = {}
    places: dict[str, tuple[int, str]] = {}
    try:
        for fields in lines:
            fields = [field.strip() for field in fields]
            if not any(fields) or (not found and fields in HEADERS):
                continue
            _check_line(f"{path}, line {lines.line_num}", fields, places)
            places[normalise((fields[0],))] = lines.line_num, fields[0]
            found[fields[0]] = fields[1] if len(fields) > 1 else ""
    except csv.Error as e:
        raise InputError(f"{path}, line {lines.line_num}: {e}: correct its quotes") from None
    if not found:
        raise InputError(f"{path} lists no keywords: write one on each line")
    return found


def _check_line(where: str, fields: list[str], places: dict[str, tuple[int, str]]) -> None:
    """Raise InputError if a line is wrong; places: (line, keyword) of those before, by normal form."""
    if len(fields) > 2:
        raise InputError(
            f"{where} has {len(fields)} fields, but `keyword` or `keyword,category` is expected: put "
            "quotes around a keyword that has a comma"
        )
    form = normalise((fields[0],))
    if not form:
        raise InputError(f"{where} has a category without a keyword: write the keyword before it")
    if form in places:
        line, before = places[form]
        raise InputError(
            f"{where}: keyword '{cut(fields[0])}' is '{cut(before)}' of line {line} again, since width "
            "and case are ignored: remove one"
        )
