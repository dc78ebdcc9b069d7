"""Features of stacks beside the models' predictions: feature columns, then features of the texts."""

from __future__ import annotations

import numpy as np

from foldstack import config
from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.records import FeaturesRecord
from foldstack.rows import Rows
from foldstack.text.features import feature_names, text_features
from foldstack.text.pair_features import overlap_names, overlaps


def stack_features(rows: Rows, text: bool) -> np.ndarray | None:
    """Return (n, f): `Rows.features`, then, if `text`, those of the texts; None if there are none.

    Rows of several segments also have the overlaps of every two.
    """
    if not text:
        return rows.features
    found = [] if rows.features is None else [rows.features]
    return np.hstack([*found, text_features(rows), overlaps(rows.texts)])


def describe_features(competition: Competition, text: bool) -> FeaturesRecord:
    """Return the columns of `stack_features` with a digest of the category codes."""
    segments = competition.settings.segment_count
    names = [*feature_names(segments), *overlap_names(segments)] if text else []
    return FeaturesRecord(
        columns=list(competition.feature_names),
        categories=config.digest([list(names) for names in competition.task.categories]),
        text=names,
    )


def check_features(competition: Competition, name: str, stored: FeaturesRecord | None) -> None:
    """Raise InputError if a blend's stack was fitted on other features than today's."""
    text = stored is not None and bool(stored.text)
    if stored != describe_features(competition, text):
        raise InputError(
            f"blend '{name}' is a stack on other features (columns, categories or features of the "
            "texts) than there are now: run `make blend` again"
        )
