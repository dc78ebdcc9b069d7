"""The text columns, and how several are read."""

from __future__ import annotations

from foldstack.errors import InputError, some
from foldstack.guess.contents import ROW_NUMBER, holds_dates, is_numeric, reads_like_text
from foldstack.guess.given import GivenTables, Guess


def guess_text(tables: GivenTables, found: Guess) -> None:
    given = tables.given
    if "pair" in given or "text" in given:
        what = "pair" if "pair" in given else "text"
        text = tables.columns(what)
        _check_inputs(tables, found, what, text)
        found.set("text", text, f"given by {what.upper()}=")
        if what == "pair":
            found.set("pair", True, "given by PAIR=: the two are a sentence pair")
    else:
        text = _found_text(tables)
        found.set("text", *text)
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


def _found_text(tables: GivenTables) -> tuple[tuple[str, ...], str]:
    shared = [c for c in tables.shared if not ROW_NUMBER.fullmatch(c)]
    words = [
        c
        for c in shared
        if not is_numeric(tables.train[c].unique()) and not holds_dates(tables.train[c])
    ]
    text = [c for c in words if reads_like_text(tables.train[c])]
    if len(text) > 1:
        return tuple(text), (
            "these columns of train and test read like text; they are joined by a space, unless "
            "`template` or PAIR= says otherwise"
        )
    if text:
        return tuple(text), "the column of train and test that reads like text"
    if not words:
        raise InputError(
            f"no column that train and test share ({some(tables.shared) or 'none'}) holds text: name it "
            "with TEXT="
        )
    longest = max(words, key=lambda c: tables.train[c].str.len().mean())
    return (longest,), "no column reads like sentences; this one's words are the longest"
