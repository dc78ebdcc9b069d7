"""Pairs and triples of text columns: by numbered names, by their roles, by words that they share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from foldstack.guess.contents import (
    MANY_NUMBERS,
    holds_ids,
    reads_like_text,
    shared_words,
    word_count,
)
from foldstack.guess.given import GivenTables

NUMBERED = (("1", "2"), ("a", "b"), ("left", "right"), ("first", "second"), ("one", "two"))
NEXT = {"2": "3", "b": "c", "second": "third", "two": "three"}
# Roles that two texts have to each other, by words of their columns' names.
ROLES = (
    ("premise", "hypothesis"),
    ("premise", "hypo"),
    ("prem", "hypothesis"),
    ("prem", "hypo"),
    ("prem", "hyp"),
    ("anchor", "positive"),
    ("anchor", "target"),
    ("claim", "evidence"),
    ("query", "title"),
    ("query", "passage"),
    ("query", "document"),
    ("query", "doc"),
    ("search", "title"),
    ("question", "answer"),
    ("question", "passage"),
    ("question", "context"),
    ("question", "sentence"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("instruction", "response"),
    ("source", "translation"),
)
# Words of the names of columns that are parts, or forms, of one text.
JOINED = {
    "title", "headline", "subject", "summary", "keyword", "keywords", "body", "clean", "cleaned",
    "processed", "preprocessed", "lemmatized", "stemmed", "tokens", "tokenized", "normalized",
}  # fmt: skip
# Labels that one text has in view of another, and columns whose rows share one of the two.
DIRECTED = {"entailment", "entails", "contradiction", "contradicts", "not_entailment"}
ONE_OF_TWO = {"premise", "prem", "hypothesis", "hypo", "anchor", "query"}
CONTEXT = {"context", "topic", "domain", "aspect", "section", "theme"}
MOST = 8  # columns that are compared with one another
COMPARED = 200  # rows whose words are compared
ALIKE = 3.0  # times as many shared words as texts of other rows have
FEWEST = 20  # rows below which shared words show nothing
SHARED = 0.1  # … and the least mean similarity
LENGTHS = 3.0  # the ratio of mean lengths up to which two texts may be a pair


@dataclass(frozen=True)
class TextPair:
    """Two columns that are read as two segments, and why."""

    columns: tuple[str, str]
    why: str
    symmetric: bool = False


def find_pair(
    tables: GivenTables, columns: list[str], target: tuple[str, ...] = ()
) -> TextPair | None:
    """Return the two of these columns that are a pair; None if nothing says so."""
    columns = [c for c in columns if _worded(tables, c)][:MOST]
    numbered = [two for two in combinations(columns, 2) if _numbered(*two)]
    if numbered and not _third(numbered[0], columns):
        shortest = min(numbered, key=lambda two: len(two[0]))
        why = "their names differ by a number or letter alone"
        return TextPair(shortest, why, symmetric=not _directed(tables, target))
    for roles in ROLES:
        chosen = [next((c for c in columns if role in _tokens(c)), None) for role in roles]
        if None not in chosen and chosen[0] != chosen[1]:
            return TextPair((chosen[0], chosen[1]), f"{roles[0]} and {roles[1]}, by their names")
    for a, b in combinations(columns, 2):
        if not JOINED & {*_tokens(a), *_tokens(b)} and _alike(tables, a, b):
            return TextPair(
                (a, b), "of similar length, they share more words than texts of other rows"
            )
    return None


def _directed(tables: GivenTables, target: tuple[str, ...]) -> bool:
    """Return whether labels, or the name of a column, say that one of two texts comes first."""
    labels = {label.strip().lower() for c in target for label in tables.train[c].unique()}
    names = {word for c in tables.train.columns for word in _tokens(c)}
    return bool(labels & DIRECTED or names & ONE_OF_TWO)


def context_column(tables: GivenTables, pair: TextPair, columns: Iterable[str]) -> str | None:
    """Return a column of few short values that says what a pair is about."""
    for column in columns:
        values, n = tables.train[column].nunique(), len(tables.train)
        few = 1 < values <= max(MANY_NUMBERS, n / 10)
        if column not in pair.columns and CONTEXT & {*_tokens(column)} and few:
            return column
    return None


def same_prefix(columns: list[str]) -> list[list[str]]:
    """Return the columns by the first part of their names, in order of the first of each."""
    parts: dict[str, list[str]] = {}
    for column in columns:
        parts.setdefault(_parts(column)[0] if _parts(column) else column, []).append(column)
    return list(parts.values())


def _worded(tables: GivenTables, column: str) -> bool:
    """Return whether cells are words that differ, rather than categories, ids or codes."""
    cells = tables.train[column]
    if reads_like_text(cells):
        return True
    several = cells.nunique() > min(MANY_NUMBERS, len(cells) / 2)
    return several and not holds_ids(column, cells) and word_count(" ".join(cells.head(100))) > 100


def _numbered(a: str, b: str) -> bool:
    """Return whether the names differ in one part only, which numbers them: s1, s2; text_a, text_b."""
    one, other = _parts(a), _parts(b)
    if len(one) != len(other):
        return False
    odd = [(x, y) for x, y in zip(one, other, strict=True) if x != y]
    return len(odd) == 1 and odd[0] in NUMBERED


def _third(two: tuple[str, str], columns: list[str]) -> bool:
    """Return whether the numbers go on: option_a, option_b, option_c are no pair."""
    parts = _parts(two[1])
    for part, following in NEXT.items():
        if part in parts and part not in _parts(two[0]):
            wanted = [following if p == part else p for p in parts]
            return any(_parts(c) == wanted for c in columns)
    return False


def _parts(name: str) -> list[str]:
    return re.findall(r"\d|[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())


def _tokens(name: str) -> list[str]:
    """Return the words of a name and each two neighbours as one: product_title, bodyText."""
    parts = _parts(name)
    return [*parts, *("".join(two) for two in pairwise(parts))]


def _alike(tables: GivenTables, a: str, b: str) -> bool:
    """Return whether texts of one row are of similar length and share more words than chance."""
    rows = tables.train[[a, b]]
    rows = rows[(rows[a] != "") & (rows[b] != "")].head(COMPARED)
    if len(rows) < FEWEST:
        return False
    one, other = list(rows[a]), list(rows[b])
    lengths = [sum(map(len, texts)) for texts in (one, other)]
    if max(lengths) > LENGTHS * min(lengths):
        return False
    shares = [shared_words(x, y) for x, y in zip(one, other, strict=True)]
    own = np.mean(shares)
    if np.median(shares) == 1:  # one text in two forms
        return False
    shifted = other[1:] + other[:1]
    chance = np.mean([shared_words(x, y) for x, y in zip(one, shifted, strict=True)])
    return bool(own > ALIKE * chance and own > SHARED)
