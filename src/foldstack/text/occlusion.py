"""Attribution of a prediction to the words of a text, by leaving each out in turn.

Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", with words for patches.
It asks nothing of a model but predictions, so that a linear model and a transformer are treated alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from foldstack.rows import Rows
from foldstack.text.augment.split import SplitText, split_words

MOST_PIECES = 40  # of a row; longer texts are left out some words at a time


class Piece(NamedTuple):
    """Neighbouring words that are left out together: [first, end) of a segment."""

    segment: int
    first: int
    end: int


@dataclass(frozen=True)
class Occlusion:
    """The effects of a row's pieces: how much less the score is without each.

    effects: (pieces,), or (pieces, scores) of several scores at once.
    """

    words: list[SplitText]
    pieces: list[Piece]
    effects: np.ndarray

    def of(self, score: int) -> Occlusion:
        """Return the effects on one of several scores."""
        return replace(self, effects=self.effects[:, score])

    def parts(self, segment: int) -> list[tuple[str, float | None]]:
        """Return a segment's text in parts, each with its effect; None for what is between words."""
        words, own = self.words[segment], enumerate(self.pieces)
        parts: list[tuple[str, float | None]] = []
        for number, piece in own:
            if piece.segment != segment:
                continue
            inner = SplitText(
                words.words[piece.first : piece.end],
                ["", *words.gaps[piece.first + 1 : piece.end], ""],
            )
            parts.append((words.gaps[piece.first], None))
            parts.append((str(inner), float(self.effects[number])))
        return [part for part in [*parts, (words.gaps[-1], None)] if part[0]]


def occlude(
    rows: Rows, score: Callable[[Rows, np.ndarray], np.ndarray], most: int = MOST_PIECES
) -> list[Occlusion]:
    """Return the effect of every word of these rows on their score.

    Args:
        rows: n rows.
        score: from m changed rows and (m,) the row that each is made of, to (m,) scores, or to (m, k)
            of k scores at once.
        most: the number of pieces per row; words of longer texts are left out together.

    Returns:
        Per row its pieces with (score of the whole text) - (score without the piece).
    """
    words = [[split_words(text) for text in texts] for texts in rows.texts]
    pieces = [cut_pieces(each, most) for each in words]
    texts = [
        changed
        for whole, of_row, cut in zip(rows.texts, words, pieces, strict=True)
        for changed in (whole, *(_without(of_row, piece) for piece in cut))
    ]
    sizes = [1 + len(cut) for cut in pieces]
    source = np.repeat(np.arange(len(rows)), sizes)
    scores = score(replace(rows.take(source), texts=texts), source)
    found = np.split(scores, np.cumsum(sizes)[:-1]) if len(rows) else []
    return [
        Occlusion(of_row, cut, own[0] - own[1:])
        for of_row, cut, own in zip(words, pieces, found, strict=True)
    ]


def cut_pieces(words: list[SplitText], most: int) -> list[Piece]:
    """Return the pieces of a row's segments: single words, or more where they are too many."""
    total = sum(map(len, words))
    size = max(math.ceil(total / most), 1)
    return [
        Piece(segment, first, min(first + size, len(each)))
        for segment, each in enumerate(words)
        for first in range(0, len(each), size)
    ]


def _without(words: list[SplitText], piece: Piece) -> tuple[str, ...]:
    """Return a row's segments without a piece."""
    texts = []
    for segment, each in enumerate(words):
        kept = [
            k
            for k in range(len(each))
            if segment != piece.segment or not piece.first <= k < piece.end
        ]
        texts.append(each.kept(kept) if segment == piece.segment else str(each))
    return tuple(texts)
