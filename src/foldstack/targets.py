"""Target columns: which rows have a label, and the array of targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foldstack.errors import InputError, cut, first_of, some
from foldstack.labels import (
    FALSE,
    TRUE,
    different,
    joined_targets,
    positions,
    split_labels,
    value_of,
)
from foldstack.settings import CompetitionSettings

# What programs write for a value that is not there. `NA` and `none` are names of classes, too.
MISSING = {"", "nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "NaT"}
MISSING |= {sign + word for sign in ("", "-", "+") for word in ("inf", "Inf", "INF", "infinity")}
# What stands for a missing label beside names, unless it is a class: `unlabelled` says so.
MARKS = {"-", "--", "?", "-1", "unlabelled", "unlabeled", "no label", "no_label", "nolabel"}
LARGEST = float(np.finfo(np.float32).max)  # of a target, as networks compute
SUMS_TO_1 = 0.01  # how far the shares of a row may be from a sum of 1


@dataclass(frozen=True)
class TargetColumns:
    """The target columns of a competition's tables."""

    settings: CompetitionSettings

    @property
    def one_hot(self) -> bool:
        """Whether each class has a column of its own."""
        s = self.settings
        return s.kind.is_one_hot and len(s.target) > 1

    def labelled(self, path: Path, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows that have a label, under the numbers (index) that they have in the table.

        Raises InputError if some have none, unless `unlabelled` says what to do with them.
        """
        s = self.settings
        if s.unlabelled == "class":
            return table
        of_columns = {column: self._missing(table[column]) for column in s.target}
        missing = np.any([*of_columns.values()], axis=0)
        if missing.any() and s.unlabelled == "refuse":
            column = next(name for name, own in of_columns.items() if own.any())
            raise InputError(
                unlabelled_sentence(
                    path, table[column], of_columns[column], len(s.target) - 1, int(missing.sum())
                )
            )
        if missing.all() and len(table):
            raise InputError(f"{path}: no row has a label in {some(s.target)}: fix the file")
        return table[~missing] if missing.any() else table

    def unlabelled(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows without a label; none if `unlabelled: class` makes them one."""
        if self.settings.unlabelled == "class":
            return table.iloc[:0]
        missing = [self._missing(table[column]) for column in self.settings.target]
        return table[np.any(missing, axis=0)]

    def _missing(self, column: pd.Series) -> np.ndarray:
        s = self.settings
        found = missing_values(column.unique(), numbers=s.kind.is_values)
        if len(s.target) == 1 and s.unlabelled in ("drop", "pool") and not s.separator:
            found |= marks_among(column.unique())
        found -= set(s.labels)
        if s.separator:
            found.discard("")  # a row without any label
        return column.isin(found).to_numpy()

    def labels(self, path: Path, table: Callable[[], pd.DataFrame]) -> tuple[str, ...]:
        """Return the names of the classes, the labels, or the targets; see `Competition.labels`.

        table: returns the labelled rows, which are read only if the settings name no labels.
        """
        s = self.settings
        if s.kind.is_values or self.one_hot or (s.kind.several_labels_per_row and not s.separator):
            return s.target
        if len(s.target) != 1:
            raise InputError(
                f"competition.yaml: kind {s.kind} requires one target column, got "
                f"{len(s.target)}: {', '.join(s.target)}"
            )
        labels = s.labels or self._found(table())
        if s.kind.has_positive_class and len(labels) != 2:
            raise InputError(
                f"{path}: kind binary requires two labels in column '{s.target[0]}', found "
                f"{len(labels)}: {some(labels)}; fix the column or set `kind: multiclass`"
            )
        if len(labels) < 2 or len({value_of(label) for label in labels}) < len(labels):
            raise InputError(
                f"competition.yaml: labels are {some(labels)}: at least two different "
                "ones are required"
            )
        return labels

    def _found(self, table: pd.DataFrame) -> tuple[str, ...]:
        if self.settings.threshold is not None:
            return ("0", "1")
        values = set(table[self.settings.target[0]])
        if self.settings.separator:
            by = self.settings.separator
            values = {part for value in values for part in split_labels(value, by)}
        return different(values)

    def read(self, path: Path, table: pd.DataFrame, labels: tuple[str, ...]) -> np.ndarray:
        """Return (n, outputs) targets.

        Args:
            path: of the table, for messages.
            table: has the target columns; all rows are labelled.
            labels: see `labels`.

        Raises:
            InputError: a cell is none of the labels, or not what the kind requires.
        """
        s = self.settings
        if s.kind.is_values:
            return np.column_stack([self._values(path, table[c]) for c in s.target])
        if s.separator:
            targets, bad = joined_targets(table[s.target[0]], labels, s.separator)
            refuse_label(path, table[s.target[0]], bad, labels)
            return targets
        if self.one_hot:
            return self._shares(path, table)
        if s.threshold is not None:
            values = [self._values(path, table[c]) for c in s.target]
            return (np.column_stack(values) >= s.threshold).astype(float)
        if s.kind.several_labels_per_row:
            return np.column_stack([self._zero_one(path, table[c]) for c in s.target])
        index = positions(labels, table[s.target[0]])
        refuse_label(path, table[s.target[0]], index < 0, labels)
        if s.kind.has_positive_class:
            return index.astype(float)[:, None]
        return np.eye(len(labels))[index]

    def soft_columns(self, given: Iterable[str], labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the columns that hold soft labels: one per label, or a binary target's own.

        given: the columns of the table.
        """
        if self.settings.kind.has_positive_class and not set(labels) <= set(given):
            return self.settings.target
        return labels

    def read_soft(self, path: Path, table: pd.DataFrame, labels: tuple[str, ...]) -> np.ndarray:
        """Return (n, outputs) probabilities, see `read`."""
        columns = list(self.soft_columns(table.columns, labels))
        values = np.column_stack([numbers_of(table[c]) for c in columns])
        for column, own in zip(columns, values.T, strict=True):
            bad = ~((own >= 0) & (own <= 1))
            refuse_first(bad, path, table[column], "soft labels are numbers from 0 to 1", "column")
        kind = self.settings.kind
        if len(columns) > 1 and not kind.several_labels_per_row:
            total = values.sum(axis=1)
            rows = np.flatnonzero(abs(total - 1) > SUMS_TO_1)
            if len(rows):
                raise InputError(
                    f"{path}: row {table.index[rows[0]] + 1}: the soft labels in {some(columns)} sum to "
                    f"{total[rows[0]]:.4g}: probabilities of classes sum to 1: fix the row"
                )
            values = values / total[:, None]
        return values[:, 1:] if len(columns) > 1 and kind.has_positive_class else values

    def _shares(self, path: Path, table: pd.DataFrame) -> np.ndarray:
        """Return (n, classes) of one 1 per row, or for log loss of shares that sum to 1."""
        columns = list(self.settings.target)
        if not any(_is_decimal(table[c]) for c in columns):
            values = np.column_stack([self._zero_one(path, table[c]) for c in columns])
            wanted, bad = "exactly one 1", values.sum(axis=1) != 1
        else:
            if self.settings.metric != "log_loss":
                raise InputError(
                    f"{path}: the columns {some(columns)} hold shares of classes, which metric "
                    f"{self.settings.metric} cannot score: set `metric: log_loss`, or "
                    "`kind: regression`"
                )
            values = np.column_stack([self._values(path, table[c]) for c in columns])
            bad = (values < 0).any(axis=1) | (abs(values.sum(axis=1) - 1) > SUMS_TO_1)
            wanted = "shares of 0 or more that sum to 1"
            values = values / np.where(bad, 1, values.sum(axis=1))[:, None]
        rows = np.flatnonzero(bad)
        if len(rows):
            row = table.iloc[rows[0]]
            raise InputError(
                f"{path}: row {table.index[rows[0]] + 1} holds {', '.join(row[columns])} in "
                f"{some(columns)}, and kind multiclass requires {wanted} in each row: fix the row, or "
                "set `kind: multilabel`"
            )
        return values

    def _values(self, path: Path, column: pd.Series) -> np.ndarray:
        values, bound = numbers_of(column), ""
        if self.settings.threshold is not None:
            bound = " for its threshold"
        wanted = f"kind {self.settings.kind} requires a number{bound}"
        refuse_first(~np.isfinite(values), path, column, wanted, "column")
        if self.settings.kind.is_values:
            wanted = f"kind {self.settings.kind} requires numbers from -3.4e38 to 3.4e38"
            refuse_first(abs(values) > LARGEST, path, column, wanted, "column")
        return values

    def _zero_one(self, path: Path, column: pd.Series) -> np.ndarray:
        bad = ~column.isin(TRUE | FALSE).to_numpy()
        wanted = f"kind {self.settings.kind} requires 0 or 1"
        refuse_first(bad, path, column, wanted, "column")
        return column.isin(TRUE).to_numpy(dtype=float)


# Rows without a label


def missing_values(values: Iterable[str], *, numbers: bool = False) -> set[str]:
    """Return those of a target column's values that say that there is no label.

    They are the empty cell, what programs write for it (`MISSING`), and -1 beside whole numbers from
    0 on. numbers: the values are quantities, of which -1 is one.
    """
    values = set(values)
    missing = values & MISSING
    others = {value_of(v) for v in values - missing}
    if not numbers and -1.0 in others and len(others) > 1:
        rest = others - {-1.0}
        if all(isinstance(v, float) and v >= 0 and v.is_integer() for v in rest):
            missing |= {v for v in values - missing if value_of(v) == -1}
    return missing


def marks_among(values: Iterable[str]) -> set[str]:
    """Return those of a target column's values that may mark a missing label: `-` beside two names."""
    values = set(values)
    marks = {v for v in values if v.strip().lower() in MARKS}
    names = {v for v in values - marks - MISSING if isinstance(value_of(v), str)}
    if len(names) < 2 or (names & {"+", "++"}):
        return set()
    return marks


def unlabelled_sentence(
    path: Path, column: pd.Series, missing: np.ndarray, beside: int = 0, in_all: int | None = None
) -> str:
    """Return what is wrong with rows that have no label, and what to do.

    Args:
        path: of the table.
        column: a target column, under the rows' numbers in the file.
        missing: (n,) bool, its rows without a label.
        beside: the number of other target columns.
        in_all: the rows that lack a label in any target column.
    """
    rows = list(column.index[missing] + 1)
    named = f"row {rows[0]} has" if len(rows) == 1 else f"rows {first_of(rows)} have"
    count = f" ({len(rows):,} rows)" if len(rows) > 3 else ""
    cells = [f"'{cut(value)}'" if value else "nothing" for value in sorted(set(column[missing]))]
    whole = f"leave whole rows out ({in_all:,} with the other columns)" if beside else ""
    whole = whole or "leave them out"
    last = ", or `pool` to keep their texts for pretraining"
    if not beside:
        last = ", `pool` to keep their texts for pretraining, or `class` if that is a label"
    return (
        f"{path}: {named} no label{count}: column '{column.name}' holds {' and '.join(cells)} there: "
        f"set `unlabelled: drop` in competition.yaml (UNLABELLED=drop for `make init`) to {whole}{last}"
    )


# Cells


def refuse_label(path: Path, column: pd.Series, bad: np.ndarray, labels: Sequence[str]) -> None:
    wanted = f"which is none of the labels {some(labels)}"
    rows = np.flatnonzero(bad)
    if len(rows):
        raise InputError(
            f"{path}: row {column.index[rows[0]] + 1}: column '{column.name}' holds "
            f"'{cut(column.iloc[rows[0]])}', {wanted}: fix the row or `labels` in competition.yaml"
        )


def refuse_first(bad: np.ndarray, path: Path, column: pd.Series, wanted: str, what: str) -> None:
    """Raise InputError for the first row (n,) bool whose cell is not what is wanted."""
    rows = np.flatnonzero(bad)
    if len(rows):  # a part of a larger table counts its rows by its index
        value = column.iloc[rows[0]]
        holds = f"holds '{cut(value)}'" if value else "is empty"
        raise InputError(
            f"{path}: row {column.index[rows[0]] + 1}: {what} '{column.name}' {holds}: {wanted}"
        )


def numbers_of(column: pd.Series) -> np.ndarray:
    """Return (n,) float; nan for what is not a number."""
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)


def _is_decimal(column: pd.Series) -> bool:
    values = numbers_of(column)
    return bool(np.isfinite(values).all() and (values % 1 != 0).any())
