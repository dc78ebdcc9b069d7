"""Whether pairs that share a sentence should share a fold."""

from __future__ import annotations

import numpy as np

from foldstack.drift.sharing import APART
from foldstack.guess.given import GivenTables, Guess
from foldstack.rows import connected_groups, normalise
from foldstack.settings import FoldSettings


def propose_connected(tables: GivenTables, found: Guess) -> None:
    """Propose `folds.connected` if training pairs share sentences and test pairs share none of them.

    Not if the connected pairs are one component too large for a fold.
    """
    if "pair" not in found.settings:
        return
    columns = list(found.settings["text"])
    train, test = (
        [tuple(row) for row in table[columns].to_numpy().tolist()]
        for table in (tables.train, tables.test)
    )
    sizes = np.bincount(groups := connected_groups(train))
    shared = float((sizes[groups] > 1).mean())
    known = {normalise((text,)) for row in train for text in row} - {""}
    of_test = float(np.mean([any(normalise((t,)) in known for t in row) for row in test] or [1.0]))
    if shared - of_test <= APART or sizes.max() * FoldSettings().count > len(train):
        return
    found.propose(
        "folds.connected",
        "true",
        f"{shared:.0%} of the training pairs share a sentence with another one, {of_test:.0%} of the "
        "test pairs with train: `folds: {connected: true}` in competition.yaml keeps pairs that share "
        "one in one fold, or the CV score is too good",
    )
