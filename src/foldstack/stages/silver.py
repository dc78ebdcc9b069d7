"""Rows of a run that are recombined from its own training rows, for teachers to label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foldstack.errors import InputError
from foldstack.learners import LearnerContext
from foldstack.rows import Rows, sentences_of
from foldstack.stages.fitted import threads_of
from foldstack.stages.run import Run
from foldstack.techniques import VectorsSettings
from foldstack.techniques.teaching import RECOMBINED
from foldstack.text.recombination import drawn, most_of, near_gold, recombined
from foldstack.workspace import Workspace


def refuse_none_allowed(run: Run, gold: int) -> None:
    """Raise InputError if `most` allows a run no pair; gold: the number of its training rows."""
    pseudo = run.settings.pseudo_labels
    if pseudo is not None and pseudo.recombines and not most_of(pseudo.recombine.most, gold):
        raise InputError(
            f"{run.key}: pseudo_labels.recombine.most {pseudo.recombine.most:g} allows no new pair "
            f"beside {gold} training rows: raise it, or leave recombined out"
        )


def silver_rows(ws: Workspace, run: Run, gold: Rows, judged: np.ndarray) -> Rows:
    """Return unlabelled pairs of the sentences of the rows that a run learns.

    Args:
        ws: the workspace.
        run: the run to be trained.
        gold: its rows of the training file.
        judged: positions of the rows that are held out or select the epoch, none of whose sentences
            is in the pairs.

    Raises:
        InputError: no pair can be made, or `most` allows none.
    """
    refuse_none_allowed(run, len(gold))
    s, train = run.settings.pseudo_labels.recombine, ws.competition.train
    hidden = sentences_of(train.texts[i] for i in judged)
    pairs = recombined(gold.texts, hidden, s, run.key.seed, lambda texts: _vectors(ws, run, texts))
    if not pairs:
        raise InputError(
            f"{run.key}: pseudo_labels.texts recombined can make no new pair of the sentences that no "
            "held-out row has: set folds.connected to true, or leave recombined out"
        )
    if not s.density:  # what labels do not choose need not be labelled
        kept = drawn(len(pairs), s.most, len(gold), run.key.seed)
        pairs = [pairs[i] for i in kept]
    return _rows(pairs, gold)


def kept_silver(run: Run, rows: Rows, gold: Rows) -> Rows:
    """Return those labelled rows whose labels are distributed like gold ones, if the settings say so.

    Raises InputError if there is none.
    """
    s, seed = run.settings.pseudo_labels.recombine, run.key.seed
    if not s.density or not len(rows):
        return rows
    kept = rows.take(near_gold(gold.targets, rows.targets, seed))
    if not len(kept):
        raise InputError(
            f"{run.key}: pseudo_labels.recombine.density keeps none of the {len(rows):,} pairs, since "
            "the teachers' labels are unlike the training rows' targets: leave density out, or take "
            "other teachers"
        )
    return kept.take(drawn(len(kept), s.most, len(gold), seed))


def _vectors(ws: Workspace, run: Run, texts: Sequence[str]) -> np.ndarray:
    """Return (n, size) vectors by the preset's backbone before training.

    Not by the workspace's cache: a vector's last bits depend on the texts beside it in a batch, and
    those of held-out rows are to change nothing.
    """
    from foldstack.learners.frozen_backbone import BackboneVectors

    settings = VectorsSettings(learner="vectors", **run.settings.untouched_backbone)
    context = LearnerContext(ws.competition.task, run.key.seed, threads_of(ws))
    source = BackboneVectors(settings, context)
    source.fit(texts, None)
    return source.vectors(texts)


def _rows(pairs: list[tuple[str, str]], gold: Rows) -> Rows:
    """Return the pairs as rows without labels, each a group of its own."""
    n = len(pairs)
    features = None if gold.features is None else np.full((n, gold.features.shape[1]), np.nan)
    return Rows(
        np.array([f"{RECOMBINED}:{i + 1}" for i in range(n)], dtype=object),
        pairs,
        None,
        np.ones(n),
        gold.groups.max() + 1 + np.arange(n),
        np.full(n, RECOMBINED, dtype=object),
        features=features,
    )
