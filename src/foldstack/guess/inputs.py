"""The text columns, and how several are read: joined, as a pair, or as segments."""

from __future__ import annotations

from foldstack.errors import InputError, some
from foldstack.guess.contents import ROW_NUMBER, holds_dates, is_numeric, reads_like_text
from foldstack.guess.given import GivenTables, Guess
from foldstack.guess.text_pairs import TextPair, context_column, find_pair, same_prefix

MOST_SEGMENTS = 3


def guess_text(tables: GivenTables, found: Guess) -> None:
    """Set the text columns, and whether they are a pair or segments."""
    given = tables.given
    if "pair" in given or "text" in given:
        what = "pair" if "pair" in given else "text"
        text = tables.columns(what)
        _check_inputs(tables, found, what, text)
        found.set("text", text, f"given by {what.upper()}=")
        if what == "pair":
            found.set("pair", True, "given by PAIR=: the two are a sentence pair")
    else:
        _found_text(tables, found)
    chosen = found.settings["text"]
    tables.shared = [c for c in tables.shared if c not in chosen]


def _check_inputs(tables: GivenTables, found: Guess, what: str, text: tuple[str, ...]) -> None:
    if what == "pair" and len(text) != 2:
        raise InputError(f"PAIR={tables.given[what]} names {len(text)} column: name two, PAIR=a,b")
    for column in text:
        if column in found.settings["target"]:
            raise InputError(f"{what.upper()}: column '{column}' cannot be both target and input")
        if column not in tables.test.columns:
            raise InputError(f"{what.upper()}: test has no column '{column}'")


def _found_text(tables: GivenTables, found: Guess) -> None:
    shared = [c for c in tables.shared if not ROW_NUMBER.fullmatch(c)]
    words = [
        c
        for c in shared
        if not is_numeric(tables.train[c].unique()) and not holds_dates(tables.train[c])
    ]
    text = [c for c in words if reads_like_text(tables.train[c])]
    pair = find_pair(tables, words, found.settings["target"])
    if pair is not None:
        _set_pair(tables, found, pair, text, words)
    elif len(text) > 1:
        found.set(
            "text",
            tuple(text),
            "these columns of train and test read like text; they are joined by a space, unless "
            "`template` or PAIR= says otherwise",
        )
    elif text:
        found.set("text", tuple(text), "the column of train and test that reads like text")
    elif words:
        longest = max(words, key=lambda c: tables.train[c].str.len().mean())
        found.set(
            "text", (longest,), "no column reads like sentences; this one's words are the longest"
        )
    else:
        raise InputError(
            f"no column that train and test share ({some(tables.shared) or 'none'}) holds text: name "
            "it with TEXT="
        )


def _set_pair(
    tables: GivenTables, found: Guess, pair: TextPair, text: list[str], words: list[str]
) -> None:
    """Set two columns as a pair, or with further ones as segments."""
    forms = {c: p for c in text for p in pair.columns if c != p and c.startswith(p)}
    texts = [c for c in words if c in pair.columns or (c in text and c not in forms)]
    tables.shared = [c for c in tables.shared if c not in forms]
    for column, of in forms.items():
        found.unused(column, f"by its name another form of '{of}'")
    found.symmetric = pair.columns if pair.symmetric else ()
    if len(texts) > 2:
        found.set("text", tuple(texts), "these columns of train and test read like text")
        segments = _segments(texts, pair)
        return found.set(
            "segments", segments, f"a segment each, as {_named(pair)}; TEXT= joins them"
        )
    context = context_column(tables, pair, words)
    if context is not None:
        first, second = pair.columns
        found.set("text", (*pair.columns, context), f"{_named(pair)}; '{context}' says where")
        segments = (_field(first), f"{_field(context)}: {_field(second)}")
        return found.set("segments", segments, f"'{context}' opens the second text")
    found.set("text", pair.columns, _named(pair))
    why = "two segments with the separator of the backbone"
    if pair.symmetric:
        why += "; symmetric, it seems: neither of the two comes first"
    found.set("pair", True, f"{why}; TEXT={','.join(pair.columns)} joins them instead")


def _field(column: str) -> str:
    return "{" + column + "}"


def _named(pair: TextPair) -> str:
    return f"'{pair.columns[0]}' and '{pair.columns[1]}' are a pair: {pair.why}"


def _segments(texts: list[str], pair: TextPair) -> tuple[str, ...]:
    """Return a segment for each column; of more than three, for those whose names begin alike.

    If these are still too many, the columns beside the pair are one segment before it.
    """
    parts = [[c] for c in texts]
    if len(parts) > MOST_SEGMENTS:
        parts = same_prefix(texts)
    together = any(set(pair.columns) <= set(part) for part in parts)
    if together or len(parts) > MOST_SEGMENTS:
        parts = [[c for c in texts if c not in pair.columns], *([c] for c in pair.columns)]
    return tuple(" ".join(_field(c) for c in part) for part in parts)
