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
IN_WORD = re.compile(rf"{SPACED}{{2}}")
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
    listed = {normalise((term,)): term for term in terms}
    counts, words = [], []
    for text in texts:
        text = normalise((text,))
        places = sorted((_place(text, form), form) for form in listed if form in text)
        found = [listed[form] for at, form in places if at >= 0]
        counts.append(len(found))
        words += found
    return Found(np.array(counts, dtype=np.int64), words)


def _place(text: str, term: str) -> int:
    """Return the position of the term's first match at word boundaries, -1 without one."""
    at = text.find(term)
    while at >= 0 and _is_inside_word(text, at, at + len(term)):
        at = text.find(term, at + 1)
    return at


def _is_inside_word(text: str, start: int, end: int) -> bool:
    """Return whether a word extends beyond these characters."""
    before = start > 0 and IN_WORD.match(text, start - 1)
    return bool(before or IN_WORD.match(text, end - 1))


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
