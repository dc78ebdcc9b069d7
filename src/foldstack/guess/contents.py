"""Tests of what a column holds: numbers, dates, texts, scripts."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

import pandas as pd

from foldstack.guess.given import GivenTables

MANY_NUMBERS = 20  # from this many distinct whole numbers on they may be quantities
LOOKED_AT = 2000  # rows whose texts are read to detect words and scripts
GROUP_NAME = re.compile(r"group|grp|group_?(id|key|name|no)|grp_?id|fold_?group", re.IGNORECASE)
WEIGHT = re.compile(r"(sample|row)?_?weights?", re.IGNORECASE)
DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}\b.*|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}\b.*", re.DOTALL)
ROW_NUMBER = re.compile(r"|index|row|unnamed: \d+|__index_level_\d+__", re.IGNORECASE)
ID_NAME = re.compile(
    r"(?i:(?:.*[_\W])?(?:[mpqstuv]?ids?|uuid|guid|hash|md5|sha1)\d?)|.*[a-z](?:Id|ID)s?\d?"
)
LINK = re.compile(r"(https?://|www\.)\S+")
CODE = re.compile(r"(?=\D*\d)(?=[^A-Za-z]*[A-Za-z])[\w.-]{6,}")  # letters and digits, no space
NO_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


def is_numeric(values: Collection[str]) -> bool:
    """Return whether all are finite numbers, and there are any; stops at the first that is not."""
    return len(values) > 0 and all(map(is_number, values))


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text.isascii() and "_" not in text
    except ValueError:
        return False


def distinct(column: pd.Series) -> set[str]:
    return set(column.unique())  # far quicker than a set of all cells


def holds_dates(column: pd.Series) -> bool:
    looked_at = [v for v in column.head(LOOKED_AT) if v]
    return bool(looked_at) and all(DATE.fullmatch(v.strip()) for v in looked_at)


def holds_ids(name: str, column: pd.Series) -> bool:
    """Return whether the values name something: by the column's name, or as links, hashes or codes."""
    cells = [v for v in column.head(LOOKED_AT) if v]
    if not cells:
        return False
    if ID_NAME.fullmatch(name):
        return all(len(v.split()) == 1 for v in cells)
    return all(LINK.fullmatch(v) for v in cells) or _codes(cells)


def _codes(cells: list[str]) -> bool:
    """Return whether nearly all cells are codes of one length."""
    coded = [v for v in cells if CODE.fullmatch(v)]
    lengths = Counter(map(len, coded))
    return len(coded) >= 0.9 * len(cells) and max(lengths.values()) >= 0.9 * len(coded)


def sample_has_decimals(tables: GivenTables) -> bool:
    """Return whether the sample holds numbers with a decimal point."""
    values = {v for c in tables.sample_columns for v in tables.sample[c].unique()}
    return is_numeric(values) and any("." in v or not float(v).is_integer() for v in values)


def reads_like_text(column: pd.Series) -> bool:
    """Return whether cells have several words on average, and mostly differ or are long."""
    cells = [v for v in column.head(LOOKED_AT) if v]
    if not cells or all(LINK.fullmatch(v) for v in cells):
        return False
    words = sum(map(word_count, cells)) / len(cells)
    different = len(set(cells)) / len(cells)
    return words >= 3 and (different >= 0.3 or (words >= 8 and len(set(cells)) > MANY_NUMBERS))


def word_count(text: str) -> float:
    """Return the number of words; in scripts without spaces two letters count as a word."""
    if text.isascii():
        return len(text.split())
    unspaced = sum(
        script_of_letter(c) in NO_SPACES for c in text if c.isalpha() and not c.isascii()
    )
    return len(text.split()) + unspaced / 2


def shared_words(one: str, other: str) -> float:
    """Return the Jaccard similarity of the sets of words (of letters, in scripts without spaces)."""
    a, b = (_word_set(text) for text in (one, other))
    return len(a & b) / max(len(a | b), 1)


def _word_set(text: str) -> set[str]:
    spaced = text.isascii() or not any(
        c.isalpha() and script_of_letter(c) in NO_SPACES for c in text[:50]
    )
    return set(re.findall(r"\w+", text.lower())) if spaced else set(text)


def script_of(texts: Iterable[str]) -> str:
    """Return the script of most letters; kana beside Chinese characters make it Japanese."""
    scripts: Counter[str] = Counter()
    for letter, count in Counter("".join(texts)).items():
        if letter.isalpha():
            scripts[script_of_letter(letter)] += count
    kana = scripts["HIRAGANA"] + scripts["KATAKANA"]
    if 10 * kana > scripts["CJK"] + kana > scripts.total() / 2:
        return "JAPANESE"
    return scripts.most_common(1)[0][0] if scripts else "LATIN"


def script_of_letter(letter: str) -> str:
    return re.split(r"[ -]", unicodedata.name(letter, "LATIN"))[0]
