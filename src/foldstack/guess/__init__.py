"""Guess the competition from three tables of text, each guess with its reason.

No questions are asked: what the data does not determine is an InputError that names the override.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from foldstack.errors import InputError, nearest
from foldstack.guess.given import OVERRIDES, GivenTables, Guess
from foldstack.guess.group_column import guess_group
from foldstack.guess.ids import guess_id
from foldstack.guess.inputs import guess_text
from foldstack.guess.metric_choice import guess_metric
from foldstack.guess.missing_labels import guess_unlabelled
from foldstack.guess.model import guess_models
from foldstack.guess.other_columns import guess_other_columns
from foldstack.guess.shared_sentences import propose_connected
from foldstack.guess.target import guess_target
from foldstack.guess.target_kind import guess_kind
from foldstack.kinds import Kind


def guess(
    train: pd.DataFrame,
    test: pd.DataFrame,
    sample: pd.DataFrame,
    overrides: Mapping[str, str | None] | None = None,
    *,
    of_files: Mapping[str, str] | None = None,
    made_sample: bool = False,
) -> Guess:
    """Return the settings of a competition from its three tables.

    Args:
        train, test, sample: tables of text.
        overrides: `metric`, `kind`, `id`, `text`, `target`, `pair`, `group`, `unlabelled`; text,
            target and pair may be comma lists of columns, and group `none`. Empty ones count as not
            given.
        of_files: further arguments of `init`, which its questions repeat.
        made_sample: there is no sample, and the table is one that `init` made.

    Returns:
        The settings, with a reason for each.

    Raises:
        InputError: the tables do not determine something, or an override does not fit them.
    """
    given = {name.lower(): value for name, value in (overrides or {}).items() if value}
    for name in given:
        if name not in OVERRIDES:
            raise InputError(f"override '{name}' is not known: {nearest(name, OVERRIDES)}")
    if given.get("kind", Kind.BINARY) not in tuple(Kind):
        raise InputError(f"KIND={given['kind']}: choose one of {', '.join(Kind)}")
    found = Guess()
    tables = GivenTables(
        train, test, sample, given, of_files=of_files or {}, made_sample=made_sample
    )
    guess_id(tables, found)
    guess_target(tables, found)
    guess_unlabelled(tables, found)
    guess_kind(tables, found)
    guess_text(tables, found)
    guess_group(tables, found)
    propose_connected(tables, found)
    guess_other_columns(tables, found)
    guess_metric(tables, found)
    guess_models(tables, found)
    return found
