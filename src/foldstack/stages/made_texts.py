"""Texts that the user made of training rows, such as paraphrases, from a file in input/."""

from __future__ import annotations

from itertools import compress

import numpy as np

from foldstack.competition import require
from foldstack.errors import InputError, cut
from foldstack.input_tables import in_spelling_of
from foldstack.rows import sentences_of, text_digests
from foldstack.targets import refuse_first
from foldstack.workspace import Workspace


def texts_of_file(ws: Workspace, name: str, judged: np.ndarray) -> dict[str, list[tuple[str, ...]]]:
    """Return the texts made of each training row, by its id, in the order of the file.

    A text that a row to be predicted has is not among them, whichever row it is given for; nor, with
    `folds.connected`, one that shares a sentence with such a row.

    Args:
        ws: the workspace.
        name: of the file in input/, with the competition's id and text columns.
        judged: positions of the training rows that are held out or select the epoch.

    Raises InputError, with the row, if an id is no training row's or a text is empty.
    """
    competition, path = ws.competition, ws.competition.input_path(name)
    id_, columns, ids = competition.settings.id, competition.settings.text, competition.train.ids
    table = competition.tables.named(path, competition.tables.read(name), (id_, *columns))
    for column in (id_, *columns):
        require(path, table, column)
    given = in_spelling_of(ids, table[id_])
    known = {*ids, *competition.unlabelled_ids}
    unknown = np.flatnonzero(~given.isin(known))
    if len(unknown):
        row, value = unknown[0] + 1, given.iloc[unknown[0]]
        raise InputError(
            f"{path}: row {row}: '{id_}' '{cut(value)}' is no training row: leave it out"
        )
    for column in columns:
        empty = (table[column].str.strip() == "").to_numpy()
        refuse_first(empty, path, table[column], "a text is expected", "column")
    texts, found = competition.texts_of(table), {}
    to_predict = [competition.train.texts[i] for i in judged]
    free = ~np.isin(text_digests(texts), text_digests(to_predict))
    if competition.settings.folds.connected:
        hidden = sentences_of(to_predict)
        free &= np.array([hidden.isdisjoint(sentences_of([text])) for text in texts], dtype=bool)
    for key, text in zip(given[free], compress(texts, free), strict=True):
        found.setdefault(key, []).append(text)
    return found
