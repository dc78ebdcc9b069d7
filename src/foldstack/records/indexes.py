"""Records of the index of vectors, and of what a search finds in it."""

from __future__ import annotations

from typing import ClassVar

from foldstack.records.base import Record, Table, Value


class IndexRecord(Record):
    """index.json: whose vectors vectors.npy holds, and of which rows.

    Attributes:
        model, run: what computed them; run: as `seed0/full`, None of a frozen backbone.
        content: the digest of what they depend on, see `text.vector_cache.TextNetwork`.
        precision: in which they were computed.
        texts, size: how many different texts there are, and the size of a vector.
        rows: the number of rows of each source: train, test, pool, external.
        hashes: the hash of each source's ids and texts.
        sha256: of vectors.npy; None before it is stored.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset({"sha256"})

    model: str
    run: str | None
    content: str
    precision: str
    texts: int
    size: int
    rows: dict[str, int]
    hashes: dict[str, str]
    sha256: str | None = None


class IndexResult(Record):
    """The result of the index stage; made: False if the index was there already."""

    index: IndexRecord
    folder: str
    made: bool


class FoundRow(Value):
    """One row that a search has found.

    Attributes:
        query: the id of the query's row, if a file is searched for; otherwise None.
        source: train, test, pool or external.
        segment: which of the row's texts it is, from 1; None if rows have one.
        label: its labels, or values; None if it has none.
    """

    query: str | None
    cosine: float
    source: str
    id: str
    segment: int | None
    label: str | None
    text: str


class SearchResult(Table):
    """The nearest rows of each query, most similar first.

    Attributes:
        model, run: whose vectors are compared, see `IndexRecord`.
        texts: the number of different texts that were searched.
    """

    model: str
    run: str | None
    texts: int
    rows: list[FoundRow]
