"""The features that tell test rows from training rows, in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from foldstack.drift.both_files import Files
from foldstack.drift.drift_table import DriftColumn, repeatable, repeats
from foldstack.text.features import PLACES, feature_names, text_features

SHOWN = 5
BEYOND_CHANCE = 4  # standard errors of the difference of means; among thousands of columns
LENGTHS = {
    "log_characters": "characters",
    "log_words": "words",
    "log_sentences": "sentences",
    "log_lines": "lines",
}


@dataclass(frozen=True)
class Reason:
    """A feature whose values differ between the files.

    Attributes:
        text: one line for people.
        test, train: the values compared: shares of rows, medians or means.
        contribution: coefficient times the difference of means, in logits.
    """

    text: str
    test: float
    train: float
    contribution: float


def reasons(
    files: Files, x: csr_matrix, columns: Sequence[DriftColumn], coefficients: np.ndarray
) -> tuple[Reason, ...]:
    """Return the columns with the largest contributions whose means differ beyond chance.

    Of several columns of one family (lengths; n-grams that contain each other) the first is taken.

    Args:
        files: both files.
        x: (n + t, columns) features.
        columns: their descriptions.
        coefficients: (columns,) of the model, positive for test.

    Returns:
        At most `SHOWN` reasons.
    """
    difference, error = _differences(x, files.is_test)
    contributions = coefficients * difference
    beyond = (np.abs(difference) > BEYOND_CHANCE * error) & (contributions > 0)
    order = np.argsort(-contributions, kind="stable")
    found, taken = [], []
    describe = _Describer(files, x)
    for at in order[beyond[order]]:
        column = columns[at]
        if any(_alike(column, other) for other in taken):
            continue
        taken.append(column)
        found.append(describe(column, int(at), float(contributions[at])))
        if len(found) == SHOWN:
            break
    return tuple(found)


def _differences(x: csr_matrix, is_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (columns,) differences of means, test less train, and their standard errors."""
    means, variances = [], []
    for side in (x[is_test], x[~is_test]):
        mean = np.asarray(side.mean(axis=0)).ravel()
        square = np.asarray(side.multiply(side).mean(axis=0)).ravel()
        means.append(mean)
        variances.append(np.maximum(square - mean**2, 0) / side.shape[0])
    return means[0] - means[1], np.sqrt(sum(variances))


def _alike(a: DriftColumn, b: DriftColumn) -> bool:
    if a.is_ngram and b.is_ngram:
        mine, other = a.name.strip(), b.name.strip()
        return mine in other or other in mine
    lengths = [column.kind == "text" and column.name.split(":")[1] in LENGTHS for column in (a, b)]
    return all(lengths) and a.name.split(":")[0] == b.name.split(":")[0]


class _Describer:
    """Describes columns by their values before they were standardised."""

    def __init__(self, files: Files, x: csr_matrix):
        self.files, self.test = files, files.is_test
        self.x = x.tocsc()
        self.names = feature_names(files.segment_count)
        self.surface: np.ndarray | None = None

    def __call__(self, column: DriftColumn, at: int, contribution: float) -> Reason:
        text, values = getattr(self, f"_{column.kind}")(column, at)
        if text.startswith("median"):
            test, train = (float(np.nanmedian(values[side])) for side in (self.test, ~self.test))
            text = text.removeprefix("median ")
        else:
            test, train = (float(np.nanmean(values[side])) for side in (self.test, ~self.test))
        return Reason(text.format(test=test, train=train), test, train, contribution)

    def _holds(self, at: int) -> np.ndarray:
        return (self.x[:, [at]].toarray() != 0)[:, 0]

    def _word(self, column: DriftColumn, at: int) -> tuple[str, np.ndarray]:
        return f"word '{_safe(column.name)}' " + SHARES.format("texts"), self._holds(at)

    def _char(self, column: DriftColumn, at: int) -> tuple[str, np.ndarray]:
        return f"characters '{_safe(column.name)}' " + SHARES.format("texts"), self._holds(at)

    def _text(self, column: DriftColumn, at: int) -> tuple[str, np.ndarray]:
        if self.surface is None:
            self.surface = text_features(self.files.rows)
        values = self.surface[:, self.names.index(column.name)]
        which, _, name = column.name.partition(":")
        one = "sentences" if self.files.segment_count == 2 else "segments"
        where = f"{which} {one}" if which in PLACES else "texts"
        if name in LENGTHS:
            lengths = np.expm1(values)
            medians = [np.median(lengths[side]) for side in (self.test, ~self.test)]
            if medians[0] != medians[1]:
                word = "longer" if medians[0] > medians[1] else "shorter"
                return (
                    f"median test {where} are {word}: median {{test:.0f}} against {{train:.0f}} "
                    f"{LENGTHS[name]}",
                    lengths,
                )
            return (
                f"length of {where}: mean {{test:.1f}} {LENGTHS[name]} in test, {{train:.1f}} in "
                "training",
                lengths,
            )
        of = {"pair": "pairs"}.get(which, f"{which} segments" if "+" in which else where)
        return (
            f"'{name}' of {of}: mean {{test:.3g}} in test, {{train:.3g}} in training",
            values,
        )

    def _repeats(self, column: DriftColumn, at: int) -> tuple[str, np.ndarray]:
        values = repeats(repeatable(self.files)[column.name])
        return (
            f"a test {column.name} has {{test:.2f}} copies on average, a training {column.name} "
            "{train:.2f}, counted over both files",
            values,
        )

    def _number(self, column: DriftColumn, at: int) -> tuple[str, np.ndarray]:
        values = self.files.rows.features[:, self.files.numeric.index(column.name)]
        return (
            f"column '{_safe(column.name)}': mean {{test:.4g}} in test, {{train:.4g}} in training",
            values,
        )

    def _empty(self, column: DriftColumn, at: int) -> tuple[str, np.ndarray]:
        place = (*self.files.numeric, *self.files.categorical).index(column.name)
        values = np.isnan(self.files.rows.features[:, place])
        return f"column '{_safe(column.name)}' is empty " + SHARES.format("rows"), values

    def _category(self, column: DriftColumn, at: int) -> tuple[str, np.ndarray]:
        place = self.files.categorical.index(column.name)
        code = list(self.files.categories[place]).index(column.value)
        values = self.files.rows.features[:, len(self.files.numeric) + place] == code
        return (
            f"column '{_safe(column.name)}' is '{_safe(column.value)}' " + SHARES.format("rows"),
            values,
        )


SHARES = "in {{test:.1%}} of the test and {{train:.1%}} of the training {}"


def _safe(text: str) -> str:
    """Return text from a file as part of a format string, without line breaks."""
    return " ".join(text.split()).replace("{", "{{").replace("}", "}}") or text.replace("\n", "\\n")
