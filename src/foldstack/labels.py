"""Names of labels: their spellings, order and positions, and cells that join several.

Two spellings of a number are one label (`1` and `1.0`), and so are the words for true and false with 1
and 0; codes with leading zeros (`007`) are names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

TRUE, FALSE = {"1", "1.0", "true", "True", "TRUE"}, {"0", "0.0", "false", "False", "FALSE"}
NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d+)?")


def value_of(label: str) -> float | str:
    """Return what a label is: a number however it is spelled, else the text itself."""
    if label in TRUE or label in FALSE:
        return float(label in TRUE)
    if not NUMBER.fullmatch(label):
        return label
    number = float(label)
    return number if math.isfinite(number) else label


def different(values: Collection[str]) -> tuple[str, ...]:
    """Return the different labels among these values, sorted, each in its shortest spelling."""
    shortest: dict[float | str, str] = {}
    for value in sorted(values, key=lambda v: (len(v), v)):
        shortest.setdefault(value_of(value), value)
    return tuple(sorted(shortest.values(), key=number_or_text))


def positions(labels: tuple[str, ...], column: pd.Series) -> np.ndarray:
    """Return (n,) the position of each cell's label; -1 if it is none."""
    place = {value_of(label): k for k, label in enumerate(labels)}
    codes, values = pd.factorize(column)
    return np.array([place.get(value_of(v), -1) for v in values], dtype=int)[codes]


def alike(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the labels that differ in case or white space alone, together."""
    found: dict[str, list[str]] = {}
    for label in labels:
        found.setdefault(_loose(label), []).append(label)
    return [tuple(same) for same in found.values() if len(same) > 1]


def _loose(label: str) -> str:
    return " ".join(label.split()).casefold()


def matched(labels: Collection[str], shown: Iterable[str]) -> dict[str, str] | None:
    """Return {label: shown value} of the same but for case or white space; None if others differ."""
    shown = list(shown)
    places = {_loose(value): value for value in shown}
    found = {label: places.get(_loose(label)) for label in labels}
    same = len(shown) == len(places) == len(found) == len(set(found.values()))
    return found if same and None not in found.values() else None


def spelled(labels: tuple[str, ...], shown: Collection[str]) -> tuple[str, ...]:
    """Return the labels in the spelling of a sample's values, if these show another one.

    `0` for `0.0`, `2.0` for `2`, `True` for `1`, and words in another case. Labels that the sample
    does not spell otherwise are returned as they are.
    """
    shown = set(shown)
    as_shown = matched(labels, shown)
    if as_shown is not None:
        return tuple(as_shown[label] for label in labels)
    numbers = [value_of(label) for label in labels]
    if shown <= set(labels) or not all(isinstance(n, float) for n in numbers):
        return labels
    if not all(isinstance(value_of(v), float) for v in shown):
        return labels
    words = {v for v in shown if v in TRUE | FALSE and v.isalpha()}
    if words == shown and set(numbers) <= {0.0, 1.0}:
        true, false = _words_like(next(iter(sorted(words))))
        return tuple(true if n else false for n in numbers)
    if not all(n.is_integer() for n in numbers) or words:
        return labels
    decimals = {len(v.partition(".")[2]) for v in shown}
    if len(decimals) > 1 or not all(re.fullmatch(r"-?\d+(\.0+)?", v) for v in shown):
        return labels
    return tuple(f"{n:.{next(iter(decimals))}f}" for n in numbers)


def _words_like(word: str) -> tuple[str, str]:
    """Return the words for true and false in the case of one of them."""
    change = str.lower if word.islower() else str.upper if word.isupper() else str.capitalize
    return change("true"), change("false")


def number_or_text(label: str) -> tuple[int, float, str]:
    """Return a sort key: numbers by value, then words."""
    try:
        number = float(label)
    except ValueError:
        return (1, 0.0, label)
    # `nan` and `inf` are words here: nan has no place in an order.
    return (0, number, label) if math.isfinite(number) else (1, 0.0, label)


def split_labels(text: str, separator: str) -> list[str]:
    """Return the labels that one cell joins; none for an empty cell."""
    return [part for part in map(str.strip, text.split(separator)) if part]


def most_labels(cells: Iterable[str]) -> int:
    """Return the number of words of the cell with most: labels, if cells join labels by spaces."""
    return max((len(cell.split()) for cell in cells), default=0)


def labels_per_cell(cells: Iterable[str], labels: Collection[str]) -> int:
    """Return how many labels, joined by spaces, a cell holds at most; 0 if some words are no labels."""
    cells, known = list(dict.fromkeys(cells)), set(labels)
    if any(" " in label for label in labels) or not all(known >= set(c.split()) for c in cells):
        return 0
    return most_labels(cells)


def joined_targets(
    cells: Iterable[str], labels: tuple[str, ...], separator: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return ((n, labels) 0/1 of cells that join labels, (n,) whether a cell has an unknown part)."""
    place = {label: k for k, label in enumerate(labels)}
    parts = [split_labels(text, separator) for text in cells]
    targets = np.zeros((len(parts), len(labels)))
    for i, row in enumerate(parts):
        targets[i, [place[part] for part in row if part in place]] = 1
    return targets, np.array([any(part not in place for part in row) for row in parts], dtype=bool)
