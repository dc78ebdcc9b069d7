"""Augmentation of training rows: never of rows that are held out, predicted or scored.

A text is drawn from the seed, the epoch (or the copy's number) and the row's id alone, in whatever
order and process it is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from foldstack.errors import InputError
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.techniques import Augmentation
from foldstack.text.augment.changes import Change, make_change
from foldstack.text.augment.words import split_words

TRIED = 200  # texts that a technique must change at least one of
TRIES = 5  # draws for each of them
FEW = 0.5


@dataclass(frozen=True)
class Augmenter:
    """The changes that the settings name, fitted on a run's own training rows where they learn."""

    settings: tuple[Augmentation, ...]
    changes: tuple[Change, ...]

    @classmethod
    def of(cls, settings: Sequence[Augmentation], train: Rows) -> Augmenter:
        """Raises InputError where a technique lacks what it needs, or changes no text that is tried."""
        texts = [part for text in train.texts for part in text if split_words(part).words]
        if not texts:
            raise InputError("augment: no training text has a word: leave augment out")
        changes = []
        for s in settings:
            change = make_change(s, texts)
            _try(s, change, texts[:TRIED])
            changes.append(change)
        return cls(tuple(settings), tuple(changes))

    def texts(self, rows: Rows, seed: int, epoch: int) -> list[tuple[str, ...]]:
        """The rows' texts in this epoch; a technique touches a row with its own probability."""
        return [
            self._changed(text, row_random(seed, epoch, id_), always=False)
            for id_, text in zip(rows.ids, rows.texts, strict=True)
        ]

    def copies(self, rows: Rows, count: int, seed: int) -> Rows:
        """`count` copies of each row, at least one technique tried on each; ids `<id>#1` and so on.

        Targets, weights, groups and features are the row's own, so that a copy, even one that came
        out equal, stays wherever its row is; origin 'augmented'. All first copies come first.
        """
        numbered = [(number, row) for number in range(1, count + 1) for row in range(len(rows))]
        texts = [
            self._changed(rows.texts[row], row_random(seed, -number, rows.ids[row]), always=True)
            for number, row in numbered
        ]
        return replace(
            rows.take(np.array([row for _, row in numbered])),
            ids=np.array([f"{rows.ids[row]}#{number}" for number, row in numbered], dtype=object),
            texts=texts,
            origin=np.full(len(texts), "augmented", dtype=object),
        )

    def _changed(self, text: tuple[str, ...], rng: Random, *, always: bool) -> tuple[str, ...]:
        """always: one at least of the techniques, which none other than chance may leave out."""
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
    """The training rows and `copies` changed copies of each behind them; the rows alone where none.

    Raises InputError as `Augmenter.of` does.
    """
    if not settings or not copies:
        return train
    more = Augmenter.of(settings, train).copies(train, copies, seed)
    return replace(  # by `take`, which carries over every column there is
        train.take(np.tile(np.arange(len(train)), 1 + copies)),
        ids=np.concatenate([train.ids, more.ids]),
        texts=train.texts + more.texts,
        origin=np.concatenate([train.origin, more.origin]),
    )


def row_random(seed: int, epoch: int, id_: str) -> Random:
    """A generator of the row's own. Python's `hash` would be another in each process."""
    key = f"{seed}:{epoch}:{id_}".encode("utf-8", "surrogatepass")
    return Random(int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little"))


def _apply(change: Change, text: str, rng: Random) -> str:
    words = split_words(text)
    return change(words, rng) if words.words else text


def _try(settings: Augmentation, change: Change, texts: list[str]) -> None:
    """Raises InputError where none of the texts is changed; says so where few are."""
    rng, name = Random(0), settings.name
    changed = sum(any(_apply(change, text, rng) != text for _ in range(TRIES)) for text in texts)
    tried = f"of the {len(texts)} training texts tried: it is for {settings.suits[name]}"
    if not changed:
        raise InputError(f"augment: {name} changes none {tried}, so leave it out here")
    if changed < FEW * len(texts):
        say(f"augment: {name} changes only {changed} {tried}")


# Washing


def wash(
    originals: Rows,
    copies: Rows,
    probabilities_of: Callable[[Rows], np.ndarray],
    link: str,
    share: float = 0.5,
) -> Rows:
    """The copies whose label survives: the others' confidence in it has collapsed.

    probabilities_of: (n, outputs) of a run that knows neither the copies' fold nor the held-out one.
    A copy stays where, for each of its labels, that run gives it at least `share` of the probability
    that it gives the original: so a row that the run is wrong about anyway keeps its copies, which
    are no worse than itself. The originals may be more rows, in any order.

    Raises InputError for link 'identity': a regression has no probabilities.
    """
    if link == "identity":
        raise InputError(
            "washing compares the probabilities of labels, which a regression has not: leave it out"
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
    """The probability of the given label, (n, 1) of classes, (n, outputs) of labels.

    Of a soft one, that a label drawn from the target and one drawn from the probabilities agree.
    """
    if link == "softmax":
        return (targets * probabilities).sum(axis=1, keepdims=True)
    return targets * probabilities + (1 - targets) * (1 - probabilities)
