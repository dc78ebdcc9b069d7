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
from foldstack.text.augment.changes import Change, Item, RowChange, make_change
from foldstack.text.augment.resources import NOTHING, Resources
from foldstack.text.augment.split import split_words

TRIES = 5  # attempts per text
FEW = 0.5  # share of changed texts below which a warning is printed


@dataclass(frozen=True)
class Augmenter:
    """Augmentation techniques, fitted on a run's training rows if they learn."""

    settings: tuple[Augmentation, ...]
    changes: tuple[Change | RowChange, ...]
    beside: Resources = NOTHING

    @classmethod
    def of(
        cls,
        settings: Sequence[Augmentation],
        train: Rows,
        beside: Resources = NOTHING,
    ) -> Augmenter:
        """Make and try the techniques.

        Raises InputError if one is unavailable or changes no text.
        """
        texts = [part for text in train.texts for part in text if split_words(part).words]
        if not texts:
            raise InputError(f"augment: no {_whose(train)} text has a word: leave augment out")
        changes = []
        for s in settings:
            change = make_change(s, texts, beside)
            if s.of_rows:
                _try_rows(s, change, train.take(np.arange(len(train))[: s.tried]))
            else:
                _try(s, change, texts[: s.tried], _whose(train))
            changes.append(change)
        return cls(tuple(settings), tuple(changes), beside)

    def texts(
        self, rows: Rows, seed: int, epoch: int, *, always: bool = False
    ) -> list[tuple[str, ...]]:
        """Return the rows' texts in this epoch; each technique applies with its own probability.

        always: apply at least one to each text.
        """
        return self._changed(_items(rows, seed, epoch, epoch), always=always)

    def copies(self, rows: Rows, count: int, seed: int) -> Rows:
        """Return `count` augmented copies of each row, all first copies first; ids `<id>#1` and so on.

        At least one technique is applied to each; a row that none has a text for has no copies.
        Targets, weights, groups and features are the row's own, so that a copy, even an unchanged
        one, stays in its row's fold; origin is 'augmented', or that of a row which teachers have
        labelled.
        """
        self._say_without(rows)
        rows = rows.take(changeable(rows, self.settings, self.beside))
        numbers = range(1, count + 1)
        items = [item for number in numbers for item in _items(rows, seed, -number, number - 1)]
        taken = rows.take(np.tile(np.arange(len(rows)), count))
        return replace(
            taken,
            ids=np.array([f"{id_}#{n}" for n in numbers for id_ in rows.ids], dtype=object),
            texts=self._changed(items, always=True),
            origin=np.where(taken.origin == PSEUDO, taken.origin, "augmented"),
        )

    def _say_without(self, rows: Rows) -> None:
        """Say how many rows the files of techniques have no text for."""
        others = any(not s.of_file for s in self.settings)
        for s in self.settings:
            without = len(rows) - len(changeable(rows, [s], self.beside))
            if without:
                then = (
                    "their copies are changed otherwise" if others else "they have no copies by it"
                )
                say(f"augment: {without:,} of {len(rows):,} rows have no text in {s.file}: {then}")

    def _changed(self, items: list[Item], *, always: bool) -> list[tuple[str, ...]]:
        """Apply each technique with its probability; if `always`, at least one.

        Technique by technique, since some change many rows at once; each row samples from its own
        generator in the order of the techniques, so that the other rows do not matter.
        """
        drawn = [self._drawn(item, always=always) for item in items]
        for number, (s, change) in enumerate(zip(self.settings, self.changes, strict=True)):
            at = [i for i, each in enumerate(drawn) if number in each]
            texts = _apply_to_rows(s, change, [items[i] for i in at])
            for i, text in zip(at, texts, strict=True):
                items[i] = replace(items[i], text=text)
        return [item.text for item in items]

    def _drawn(self, item: Item, *, always: bool) -> set[int]:
        """Return the numbers of the techniques that change a row, among those with a text for it."""
        rng, made = item.rng, self.beside.made
        able = [i for i, s in enumerate(self.settings) if not s.of_file or item.id in made[s.file]]
        drawn = {i for i in able if rng.random() < self.settings[i].probability}
        return drawn or ({rng.choice(able)} if always else drawn)


def changeable(
    rows: Rows, settings: Sequence[Augmentation], beside: Resources = NOTHING
) -> np.ndarray:
    """Return (m,) positions of the rows that some technique has a text for, or changes otherwise."""
    if any(not s.of_file for s in settings):
        return np.arange(len(rows))
    given = [id_ for s in settings for id_ in beside.made[s.file]]
    return np.flatnonzero((rows.origin == "gold") & np.isin(rows.ids, given))


def _items(rows: Rows, seed: int, epoch: int, number: int) -> list[Item]:
    return [
        Item(id_ if origin == "gold" else None, text, row_random(seed, epoch, id_), number)
        for id_, text, origin in zip(rows.ids, rows.texts, rows.origin, strict=True)
    ]


def _apply_to_rows(
    settings: Augmentation, change: Change | RowChange, items: list[Item]
) -> list[tuple[str, ...]]:
    if settings.of_rows:
        return change(items) if items else []
    return [tuple(_apply(change, part, item.rng) for part in item.text) for item in items]


def augmented(
    train: Rows,
    settings: Sequence[Augmentation],
    copies: int,
    seed: int,
    beside: Resources = NOTHING,
) -> Rows:
    """Append augmented copies to the training rows.

    Args:
        train: n rows.
        settings: techniques; without any, the rows are returned unchanged.
        copies: copies per row.
        seed: of the run.
        beside: what techniques read beside the rows.

    Returns:
        The rows and all copies of those that are `changeable`.

    Raises:
        InputError: as `Augmenter.of`.
    """
    if not settings or not copies:
        return train
    return train.concatenated(Augmenter.of(settings, train, beside).copies(train, copies, seed))


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
    rng = Random(0)
    changed = sum(any(_apply(change, text, rng) != text for _ in range(TRIES)) for text in texts)
    _judge(settings, changed, len(texts), whose)


def _try_rows(settings: Augmentation, change: RowChange, rows: Rows) -> None:
    """As `_try`, each row once."""
    after = change(_items(rows, 0, 0, 0))
    changed = sum(a != b for a, b in zip(after, rows.texts, strict=True))
    _judge(settings, changed, len(rows), _whose(rows))


def _judge(settings: Augmentation, changed: int, tried: int, whose: str) -> None:
    name = settings.name
    counted = f"{tried} {whose} text{'s' * (tried != 1)}"
    of = f"of the {counted} tried: it is for {settings.suits[name]}"
    if not changed:
        raise InputError(f"augment: {name} changes none {of}, so leave it out here")
    if changed < FEW * tried and not settings.of_file:  # `copies` says how many rows have no text
        say(f"augment: {name} changes only {changed} {of}")


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
