"""Stage: the rows whose texts are nearest to a text by their vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.records import FoundRow, SearchResult
from foldstack.stages.index import Entries, refuse_other_model, refuse_other_rows, sources_of
from foldstack.stages.new_rows import NewFile
from foldstack.stages.text_encoding import stored_encoding
from foldstack.text.cosine import nearest
from foldstack.workspace import Workspace


def search(
    ws: Workspace, *, text: str | None = None, file: str | None = None, top: int = 10
) -> SearchResult:
    """Return the rows nearest to a text, or to each text of a file, by the cosine of their vectors.

    Rows of equal cosine come in the order train, test, pool, external, and there in that of their file.

    Args:
        ws: the workspace.
        text: what to look for.
        file: a file with the competition's text column(s), each text of which is looked for.
        top: rows to return for each text.

    Raises:
        InputError: there is no index, it is stale or damaged, or a text is empty.
    """
    if (text is None) == (file is None):
        raise InputError('search takes either TEXT="…" or FILE=new.csv (--text, --file)')
    record = ws.store.read_index()
    if record is None:
        raise InputError("there is no index of vectors yet: run `make index` first")
    sources = sources_of(ws.competition)
    refuse_other_rows(record, sources)
    queries = [(None, text)] if file is None else _of_file(ws.competition, Path(file))
    if any(not each.strip() for _, each in queries):
        raise InputError("the text is empty: write what to look for")
    vectors = ws.store.read_index_vectors(record)
    encoding = stored_encoding(ws, record)
    refuse_other_model(record, encoding)
    found = nearest(encoding.vectors([each for _, each in queries]), vectors, top)
    entries = Entries.of(sources)
    rows = [
        row
        for (id_, _), places, cosines in zip(queries, found.places, found.cosines, strict=True)
        for row in _found(ws.competition, entries, id_, places, cosines)[:top]
    ]
    return SearchResult(model=record.model, run=record.run, texts=record.texts, rows=rows)


def _of_file(competition: Competition, path: Path) -> list[tuple[str, str]]:
    """Return the id and the text of each row of a file; of several segments each is one."""
    if not path.is_file():
        raise InputError(f"FILE={path} is not a file: give the path of one")
    found = []
    for _, _, rows in NewFile(competition, path, features=False).parts():
        for id_, texts in zip(rows.ids, rows.texts, strict=True):
            if not any(each.strip() for each in texts):
                raise InputError(f"{path}: row '{id_}' has an empty text: remove it")
            found += [(str(id_), each) for each in texts if each.strip()]
    return found


def _found(
    competition: Competition,
    entries: Entries,
    query: str | None,
    places: np.ndarray,
    cosines: np.ndarray,
) -> list[FoundRow]:
    """Return the rows of the k texts at these places, by decreasing cosine, then in their order."""
    at = np.flatnonzero(np.isin(entries.text_of, places))
    of_text = dict(zip(places.tolist(), cosines.tolist(), strict=True))
    of_entry = np.array([of_text[text] for text in entries.text_of[at].tolist()])
    order = np.argsort(-of_entry, kind="stable")
    return [_row(competition, entries, query, at[k], of_entry[k]) for k in order]


def _row(
    competition: Competition, entries: Entries, query: str | None, entry: int, cosine: float
) -> FoundRow:
    name = list(entries.sources)[entries.source[entry]]
    rows, row, segment = entries.sources[name], entries.row[entry], int(entries.segment[entry])
    label = None if rows.targets is None else competition.named(rows.targets[[row]])[0]
    return FoundRow(
        query=query,
        cosine=float(np.clip(cosine, -1, 1)),
        source=name,
        id=str(rows.ids[row]),
        segment=segment + 1 if len(rows.texts[row]) > 1 else None,
        label=label,
        text=rows.texts[row][segment],
    )
