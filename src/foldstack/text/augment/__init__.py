"""Augmentation of training rows; held-out and predicted rows are never changed.

An augmented text depends only on the seed, the epoch (or the number of the copy) and the row's id,
not on order or process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from foldstack.errors import InputError
from foldstack.progress import say
from foldstack.rows import PSEUDO, Rows
from foldstack.techniques import Augmentation
from foldstack.text.augment.changes import Change, make_change
from foldstack.text.augment.split import split_words

TRIED = 200  # texts of which a technique must change at least one
TRIES = 5  # attempts per text
FEW = 0.5  # share of changed texts below which a warning is printed


@dataclass(frozen=True)
class Augmenter:
    """Augmentation techniques, fitted on a run's training rows if they learn."""

    settings: tuple[Augmentation, ...]
    changes: tuple[Change, ...]

    @classmethod
    def of(cls, settings: Sequence[Augmentation], train: Rows) -> Augmenter:
        """Make and try the techniques. Raises InputError if one is unavailable or changes no text."""
        texts = [part for text in train.texts for part in text if split_words(part).words]
        if not texts:
            raise InputError(f"augment: no {_whose(train)} text has a word: leave augment out")
        changes = []
        for s in settings:
            change = make_change(s, texts)
            _try(s, change, texts[:TRIED], _whose(train))
            changes.append(change)
        return cls(tuple(settings), tuple(changes))

    def texts(
        self, rows: Rows, seed: int, epoch: int, *, always: bool = False
    ) -> list[tuple[str, ...]]:
        """Return the rows' texts in this epoch; each technique applies with its own probability.

        always: apply at least one to each text.
        """
        return [
            self._changed(text, row_random(seed, epoch, id_), always=always)
            for id_, text in zip(rows.ids, rows.texts, strict=True)
        ]

    def copies(self, rows: Rows, count: int, seed: int) -> Rows:
        """Return `count` augmented copies of each row, all first copies first; ids `<id>#1` and so on.

        At least one technique is applied to each. Targets, weights, groups and features are the
        row's own, so that a copy, even an unchanged one, stays in its row's fold; origin is
        'augmented', or that of a row which teachers have labelled.
        """
        numbered = [(number, row) for number in range(1, count + 1) for row in range(len(rows))]
        texts = [
            self._changed(rows.texts[row], row_random(seed, -number, rows.ids[row]), always=True)
            for number, row in numbered
        ]
        taken = rows.take(np.array([row for _, row in numbered]))
        return replace(
            taken,
            ids=np.array([f"{rows.ids[row]}#{number}" for number, row in numbered], dtype=object),
            texts=texts,
            origin=np.where(taken.origin == PSEUDO, taken.origin, "augmented"),
        )

    def _changed(self, text: tuple[str, ...], rng: Random, *, always: bool) -> tuple[str, ...]:
        """Apply each technique with its probability; if `always`, at least one."""
        drawn = [
            change
            for s, change in zip(self.settings, self.changes, strict=True)
            if rng.random() < s.probability
        ]
        if always and not drawn:
            drawn = [rng.choice(self.changes)]
        for change in drawn:
            text = tuple(_apply(change, part, rng) for part in text)
        return text


def augmented(train: Rows, settings: Sequence[Augmentation], copies: int, seed: int) -> Rows:
    """Append augmented copies to the training rows.

    Args:
        train: n rows.
        settings: techniques; without any, the rows are returned unchanged.
        copies: copies per row.
        seed: of the run.

    Returns:
        n * (1 + copies) rows.

    Raises:
        InputError: as `Augmenter.of`.
    """
    if not settings or not copies:
        return train
    more = Augmenter.of(settings, train).copies(train, copies, seed)
    return replace(  # `take` copies every column
        train.take(np.tile(np.arange(len(train)), 1 + copies)),
        ids=np.concatenate([train.ids, more.ids]),
        texts=train.texts + more.texts,
        origin=np.concatenate([train.origin, more.origin]),
    )


def row_random(seed: int, epoch: int, id_: str) -> Random:
    """Return a random generator for one row. Python's `hash` would differ between processes."""
    key = f"{seed}:{epoch}:{id_}".encode("utf-8", "surrogatepass")
    return Random(int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little"))


def _apply(change: Change, text: str, rng: Random) -> str:
    words = split_words(text)
    return change(words, rng) if words.words else text


def _whose(rows: Rows) -> str:
    return "unlabelled" if rows.targets is None else "training"


def _try(settings: Augmentation, change: Change, texts: list[str], whose: str) -> None:
    """Raise InputError if none of the texts is changed; print a warning if few are."""
    rng, name = Random(0), settings.name
    changed = sum(any(_apply(change, text, rng) != text for _ in range(TRIES)) for text in texts)
    counted = f"{len(texts)} {whose} text{'s' * (len(texts) != 1)}"
    tried = f"of the {counted} tried: it is for {settings.suits[name]}"
    if not changed:
        raise InputError(f"augment: {name} changes none {tried}, so leave it out here")
    if changed < FEW * len(texts):
        say(f"augment: {name} changes only {changed} {tried}")


# Filtering of copies


def wash(
    originals: Rows,
    copies: Rows,
    probabilities_of: Callable[[Rows], np.ndarray],
    link: str,
    share: float = 0.5,
) -> Rows:
    """Return the augmented copies whose label an independent model still predicts.

    A copy is kept if, for each of its labels, the model gives it at least `share` of the
    probability that it gives the original. So a row that the model gets wrong keeps its copies,
    which are no worse.

    Args:
        originals: rows that include the originals of the copies, in any order.
        copies: rows of `Augmenter.copies`.
        probabilities_of: returns (n, outputs) probabilities of a run that was trained neither on the
            copies' fold nor on the held-out one.
        link: 'sigmoid' or 'softmax'.
        share: lowest ratio of the two probabilities.

    Returns:
        The copies that are kept.

    Raises:
        InputError: link 'identity', since regression has no probabilities.
    """
    if link == "identity":
        raise InputError(
            "washing compares the probabilities of labels, which regression does not have: leave it out"
        )
    if not len(copies):
        return copies
    place = {id_: i for i, id_ in enumerate(originals.ids)}
    of = originals.take(np.array([place[id_.rpartition("#")[0]] for id_ in copies.ids]))
    first, inverse = np.unique(of.ids, return_index=True, return_inverse=True)[1:]
    before = _confidence(of.take(first).targets, probabilities_of(of.take(first)), link)[inverse]
    after = _confidence(copies.targets, probabilities_of(copies), link)
    return copies.take(np.flatnonzero((after >= share * before).all(axis=1)))


def _confidence(targets: np.ndarray, probabilities: np.ndarray, link: str) -> np.ndarray:
    """Return the probability of the given label: (n, 1) for classes, (n, outputs) for labels.

    For a soft target, the probability that labels sampled from target and prediction agree.
    """
    if link == "softmax":
        return (targets * probabilities).sum(axis=1, keepdims=True)
    return targets * probabilities + (1 - targets) * (1 - probabilities)
