"""The index of vectors, and what a search has found, on the console."""

from __future__ import annotations

from itertools import groupby

from foldstack.errors import cut
from foldstack.progress import say, table
from foldstack.records import FoundRow, IndexResult, SearchResult
from foldstack.views.console import show

WIDTH = 72  # characters of a text


@show.register
def show_index(result: IndexResult) -> None:
    """Print where the vectors are, of what, and by what they were computed."""
    index = result.index
    if not result.made:
        say(f"index: nothing to do, {result.folder} is of these rows and this model")
    of = ", ".join(f"{count:,} {name}" for name, count in index.rows.items())
    say(
        f"index: {index.texts:,} different texts of {of} rows, vectors of {index.size} numbers by "
        f"{_by(index.model, index.run)} in {index.precision}, in {result.folder}"
    )


@show.register
def show_search(result: SearchResult) -> None:
    """Print a table of the nearest rows of each text."""
    say(f"search: {result.texts:,} texts by the vectors of {_by(result.model, result.run)}")
    for query, rows in groupby(result.rows, key=lambda row: row.query):
        if query is not None:
            say(f"search: nearest to row '{cut(query)}'")
        say(_table(list(rows)))


def _by(model: str, run: str | None) -> str:
    return model if run is None else f"{model} {run}"


def _table(rows: list[FoundRow]) -> str:
    segments = any(row.segment is not None for row in rows)
    header = ["cosine", "source", "id", *(["text no."] if segments else []), "label", "text"]
    lines = [
        [
            f"{row.cosine:.4f}",
            row.source,
            cut(row.id),
            *([str(row.segment)] if segments else []),
            "" if row.label is None else cut(row.label),
            _shortened(row.text),
        ]
        for row in rows
    ]
    return table(header, lines, left=range(len(header)))


def _shortened(text: str) -> str:
    """Return the beginning of a text on one line."""
    text = " ".join(text.split())
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
