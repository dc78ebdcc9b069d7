"""Stage: vectors of all texts of the competition, for search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.meaning import PRESET
from foldstack.records import IndexRecord, IndexResult
from foldstack.rows import Rows
from foldstack.stages.text_encoding import Encoding, encoding_of
from foldstack.text.vector_cache import PART, VectorCache
from foldstack.workspace import Workspace


@dataclass(frozen=True)
class Entries:
    """The texts of rows that are searched, each segment for itself; empty ones are not.

    Attributes:
        texts: m different texts, in the order of their first entry.
        text_of: (n,) the text of each entry.
        source: (n,) the place of its source in `sources`. row: (n,) its row there. segment: (n,).
        sources: the rows by name, in the order of the entries.
    """

    texts: list[str]
    text_of: np.ndarray
    source: np.ndarray
    row: np.ndarray
    segment: np.ndarray
    sources: Mapping[str, Rows]

    @classmethod
    def of(cls, sources: Mapping[str, Rows]) -> Entries:
        number: dict[str, int] = {}
        found = [
            (number.setdefault(text, len(number)), source, row, segment)
            for source, rows in enumerate(sources.values())
            for row, texts in enumerate(rows.texts)
            for segment, text in enumerate(texts)
            if text.strip()
        ]
        return cls(list(number), *np.array(found, dtype=np.int64).reshape(-1, 4).T, sources)


def sources_of(competition: Competition) -> dict[str, Rows]:
    """Return the rows that are searched, by where they are from; those without any are left out."""
    found = {
        "train": competition.train,
        "test": competition.test,
        "pool": competition.pooled,
        "external": competition.external,
    }
    return {name: rows for name, rows in found.items() if rows is not None}


def hashes_of(sources: Mapping[str, Rows]) -> dict[str, str]:
    """Return the hash of each source's ids and texts; vectors do not depend on labels."""
    return {name: replace(rows, targets=None).hash() for name, rows in sources.items()}


def make_index(
    ws: Workspace,
    *,
    model: str | None = None,
    fold: str | None = None,
    seed: str | None = None,
) -> IndexResult:
    """Write the vectors of all train, test, pool and external texts, unless they are there.

    Each different text is computed once, and those in the workspace's cache of vectors not at all, so
    that a killed call resumes.

    Args:
        ws: the workspace.
        model, fold, seed: see `stages.text_encoding.encoding_of`.
    """
    sources = sources_of(ws.competition)
    entries = Entries.of(sources)
    if not entries.texts:
        raise InputError("every text of the competition is empty: there is nothing to search")
    encoding = encoding_of(ws, model, fold, seed)
    record = IndexRecord(
        model=encoding.model,
        run=encoding.run_name,
        content=encoding.network.content,
        precision=encoding.network.precision,
        texts=len(entries.texts),
        size=encoding.network.size,
        rows={name: len(rows) for name, rows in sources.items()},
        hashes=hashes_of(sources),
    )
    store, folder = ws.store, ws.store.name(ws.store.index_dir)
    if store.has_index(record):
        return IndexResult(index=record, folder=folder, made=False)
    cache = VectorCache(store.vectors_dir)

    def fill(out: np.ndarray) -> None:
        for start in range(0, len(out), PART):
            part = entries.texts[start : start + PART]
            out[start : start + PART] = encoding.vectors(part, cache)

    return IndexResult(index=store.write_index(record, fill), folder=folder, made=True)


def index_command(record: IndexRecord) -> str:
    """Return the command that makes an index again."""
    options = "" if record.model == PRESET else f" MODEL={record.model}"
    if record.run is not None:
        seed, _, run = record.run.partition("/")
        options += f" FOLD={run.removeprefix('fold')} SEED={seed.removeprefix('seed')}"
    return f"make index{options}"


def refuse_other_rows(record: IndexRecord, sources: Mapping[str, Rows]) -> None:
    """Raise InputError if the index is of other rows than these."""
    now = hashes_of(sources)
    for name in dict.fromkeys([*now, *record.hashes]):
        if now.get(name) != record.hashes.get(name):
            raise InputError(
                f"the index is stale, since the {name} rows have changed: run `{index_command(record)}` "
                "again"
            )


def refuse_other_model(record: IndexRecord, encoding: Encoding) -> None:
    """Raise InputError if the index has other vectors than the model computes today."""
    if encoding.network.content != record.content:
        raise InputError(
            f"the index is stale, since model '{record.model}' has changed: run "
            f"`{index_command(record)}` again"
        )
