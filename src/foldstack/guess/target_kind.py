"""The kind of target, its labels and their separator."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from foldstack import metrics
from foldstack.errors import InputError, some
from foldstack.guess.contents import (
    MANY_NUMBERS,
    distinct,
    is_number,
    is_numeric,
    sample_has_decimals,
)
from foldstack.guess.given import GivenTables, Guess
from foldstack.guess.target import refuse_classes
from foldstack.kinds import Kind
from foldstack.labels import FALSE, TRUE, different, matched
from foldstack.separators import find_separator, join_of, parts_of, splitting_sign

THRESHOLD = 0.5
ROUNDED = 0.011  # how far a row's sum may be from 1: thirds with two decimals
MANY_SHARE = 0.05  # … if they are also this share of the rows
NEGATIVE = {"false", "no", "n", "f", "negative", "neg", "ham", "non", "none", "normal", "neutral"}
POSITIVE = {
    "true",
    "yes",
    "y",
    "t",
    "positive",
    "pos",
    "spam",
    "toxic",
    "hate",
    "fake",
    "sarcastic",
}


def guess_kind(tables: GivenTables, found: Guess) -> None:
    target = found.settings["target"]
    if "kind" in tables.given:
        kind, why = Kind(tables.given["kind"]), "given by KIND="
        separator = _given_separator(tables, kind, target)
    else:
        kind, why, separator = _kind_of(tables, target)
        if "metric" in tables.given and not separator:
            kind, why = _kind_of_metric(tables, target, kind, why)
    found.set("kind", kind.value, why)
    if len(target) > 1 and kind.one_class_per_row:
        return _check_one_hot(tables, kind, target)
    column = tables.train[target[0]]
    if separator and kind.several_labels_per_row:
        joined = column.str.contains(separator.strip() or separator, regex=False).sum()
        rows = f"{joined:,} {'row holds' if joined == 1 else 'rows hold'}"
        found.set("separator", separator, f"{rows} several labels joined by {separator!r}")
    if kind.decides_by_thresholds and _in_0_to_1(_values_of(tables, target)):
        why = "the target holds numbers of 0 to 1; rows are positive from this value on"
        found.set("threshold", THRESHOLD, why)
    elif len(target) == 1 and (kind.one_class_per_row or separator):
        _labels(tables, found, distinct(column))


def _check_one_hot(tables: GivenTables, kind: Kind, target: tuple[str, ...]) -> None:
    """Raise InputError unless several target columns are classes: one 1, or shares, in each row."""
    if not kind.is_one_hot:
        raise InputError(
            f"kind {kind} requires one target column, got {some(target)}: name one with TARGET="
        )
    if not _one_hot(tables.train, target) and not _sum_to_1(tables.train, target):
        raise InputError(
            f"kind {kind} requires one target column, or several with one 1 in each row, or shares, got "
            f"{some(target)}: name one with TARGET="
        )


def _kind_of(tables: GivenTables, target: tuple[str, ...]) -> tuple[Kind, str, str | None]:
    """Return (kind, why, separator) for the values of the target columns."""
    if len(target) > 1:
        return (*_kind_of_several(tables, target), None)
    column = tables.train[target[0]]
    values = distinct(column)
    wanted = set(tables.sample_columns)
    separator = join_of(values, wanted) if len(wanted) > 1 and values != wanted else None
    if separator is None and len(values - {""}) > 2 and not is_numeric(values):
        separator = find_separator(values)
    if separator:
        return Kind.MULTILABEL, f"cells of '{target[0]}' join several labels", separator
    return (*_kind_of_one(tables, column, values), None)


def _kind_of_several(tables: GivenTables, target: tuple[str, ...]) -> tuple[Kind, str]:
    values = _values_of(tables, target)
    if values <= TRUE | FALSE:
        return _multilabel_or_classes(tables, target)
    if is_numeric(values):
        return _values_or_shares(tables, target)
    word = min(v for v in values if not is_number(v) and v not in TRUE | FALSE)
    raise InputError(
        f"the target columns {some(target)} hold '{word}' besides: several targets are 0/1 columns or "
        "numbers, and a class that several columns make up must be one column of train: add it to the "
        "file, or name others with TARGET="
    )


def _multilabel_or_classes(tables: GivenTables, target: tuple[str, ...]) -> tuple[Kind, str]:
    """Return multiclass if each row has one 1 and the sample's rows sum to 1, else multilabel."""
    columns = f"{len(target)} target columns of 0 and 1"
    if not _one_hot(tables.train, target):
        return Kind.MULTILABEL, columns
    if _sum_to_1(tables.sample, target):
        return Kind.MULTICLASS, f"{columns}, one 1 in each row, and the sample's rows sum to 1"
    return Kind.MULTILABEL, f"{columns}, one 1 in each row: KIND=multiclass makes them classes"


def _one_hot(table: pd.DataFrame, target: tuple[str, ...]) -> bool:
    held = sum(table[c].isin(TRUE).to_numpy(int) for c in target)
    return bool(np.all(held == 1))


def _sum_to_1(table: pd.DataFrame, target: tuple[str, ...]) -> bool:
    """Return whether the numbers of each row sum to 1, but for what rounding may change."""
    if not set(target) <= set(table.columns):
        return False
    if not all(is_numeric(table[c].unique()) for c in target):
        return False
    sums = sum(table[c].astype(float).to_numpy() for c in target)
    return bool(np.all(np.abs(sums - 1) <= ROUNDED))


def _values_or_shares(tables: GivenTables, target: tuple[str, ...]) -> tuple[Kind, str]:
    """Return multiclass if the rows of train and sample sum to 1, as shares of classes do."""
    columns = f"{len(target)} target columns of numbers"
    least = tables.train[list(target)].astype(float).min().min()
    if least < 0 or not _sum_to_1(tables.train, target):
        return Kind.REGRESSION, columns
    soft = f"{columns} that sum to 1 in each row: soft targets, shares of classes"
    if _sum_to_1(tables.sample, target):
        return Kind.MULTICLASS, f"{soft}, and so do the sample's; KIND=regression makes them values"
    return Kind.REGRESSION, f"{soft}; KIND=multiclass makes predicted rows sum to 1, too"


def _values_of(tables: GivenTables, target: tuple[str, ...]) -> set[str]:
    return {v for column in target for v in tables.train[column].unique()}


def _in_0_to_1(values: set[str]) -> bool:
    """Return whether these are numbers of 0 to 1 with some between."""
    if not is_numeric(values):
        return False
    numbers = {float(v) for v in values}
    return min(numbers) >= 0 and max(numbers) <= 1 and not numbers <= {0.0, 1.0}


def _kind_of_one(tables: GivenTables, column: pd.Series, values: set[str]) -> tuple[Kind, str]:
    name, n = column.name, len(different(values))
    if n == 1:
        raise InputError(
            f"train's target column '{name}' holds nothing but '{next(iter(values))}': give another "
            "TARGET="
        )
    if n == 2:
        return Kind.BINARY, f"'{name}' holds two different values"
    if matched(values, tables.sample_columns) is not None:
        return Kind.MULTICLASS, f"the sample has a column for each of the {n} classes of '{name}'"
    if not is_numeric(values):
        if n > MANY_NUMBERS and n > len(column) / 2:
            raise InputError(
                f"train's target column '{name}' holds {n:,} different texts in {len(column):,} rows, "
                "too many for classes: name another TARGET="
            )
        return Kind.MULTICLASS, f"'{name}' holds {n} different names"
    if any(not float(v).is_integer() for v in values):
        return Kind.REGRESSION, f"'{name}' holds numbers with decimals{_as_labels(tables, values)}"
    if n > MANY_NUMBERS and n > MANY_SHARE * len(column):
        return Kind.REGRESSION, (
            f"'{name}' holds {n:,} different whole numbers in {len(column):,} rows; KIND=multiclass "
            "makes them classes"
        )
    if sample_has_decimals(tables) and not any("." in v for v in values):
        return (
            Kind.REGRESSION,
            f"'{name}' holds whole numbers, but the sample numbers with decimals",
        )
    return Kind.MULTICLASS, (
        f"'{name}' holds {n} different whole numbers; KIND=regression makes them quantities"
    )


def _as_labels(tables: GivenTables, values: set[str]) -> str:
    """Return what to say of shares for which the sample asks probabilities."""
    asked = {v for c in tables.sample_columns for v in tables.sample[c].unique()}
    if not _in_0_to_1(values) or not sample_has_decimals(tables):
        return ""
    if not all(0 <= float(v) <= 1 for v in asked):
        return ""
    return (
        f" of 0 to 1, and so does the sample: if the metric takes them as labels, KIND=binary sets "
        f"`threshold: {THRESHOLD}`"
    )


def _kind_of_metric(
    tables: GivenTables, target: tuple[str, ...], kind: Kind, why: str
) -> tuple[Kind, str]:
    """Return the kind of a numeric target that a given metric decides: classes or quantities."""
    metric = tables.given["metric"]
    values = _values_of(tables, target)
    if is_own_metric(metric) or not is_numeric(values):
        return kind, why
    other = Kind.REGRESSION if kind.has_labels else Kind.MULTICLASS
    fits_other = _fits(metric, other) and (other.is_values or len(target) == 1)
    if _fits(metric, kind):  # of a metric for both, classes are taken: KIND=regression overrules
        by_metric = other.has_labels and fits_other
        return (other, f"METRIC={metric} is for it") if by_metric else (kind, why)
    if kind.is_one_hot and len(target) > 1 and _fits(metric, Kind.MULTILABEL):
        return Kind.MULTILABEL, f"METRIC={metric} is for it"
    by_threshold = Kind.BINARY if len(target) == 1 else Kind.MULTILABEL
    if kind.is_values and _in_0_to_1(values) and _fits(metric, by_threshold):
        return by_threshold, f"METRIC={metric} is for it"
    if fits_other:
        return other, f"METRIC={metric} is for it"
    return kind, why


def is_own_metric(metric: str) -> bool:
    return ".py" in metric or ":" in metric


def _fits(metric: str, kind: Kind) -> bool:
    try:
        return bool(metrics.get(metric, kind))
    except InputError:
        return False


def _given_separator(tables: GivenTables, kind: Kind, target: tuple[str, ...]) -> str | None:
    values = distinct(tables.train[target[0]])
    if kind.several_labels_per_row and len(target) == 1 and not (values <= TRUE | FALSE):
        wanted = set(tables.sample_columns)
        separator = join_of(values, wanted) or find_separator(values) or splitting_sign(values)
        if separator is None:
            raise InputError(
                f"KIND=multilabel: no separator was found in train's column '{target[0]}': set "
                "`separator` in competition.yaml, or name a 0/1 column per label with TARGET="
            )
        return separator
    if kind.several_labels_per_row and len(target) == 1:
        raise InputError(
            f"KIND=multilabel: train's column '{target[0]}' holds 0 and 1, which is kind binary: leave "
            "KIND out, or name a 0/1 column per label with TARGET="
        )
    return None


def _labels(tables: GivenTables, found: Guess, values: set[str]) -> None:
    wanted, target = set(tables.sample_columns), found.settings["target"][0]
    separator = found.settings.get("separator")
    classes = parts_of(values, separator) if separator else values
    if len(wanted) > 1 and classes != wanted and matched(classes, wanted) is None:
        refuse_classes(target, classes, wanted)
    labels = different(classes)
    if not found.kind.has_positive_class or len(labels) != 2:
        return found.set(
            "labels", labels, f"the {len(labels)} different ones of '{target}', sorted"
        )
    labels = _positive_last(labels)
    found.set("labels", labels, f"'{labels[1]}' is the positive class: the last one is")


def _positive_last(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return two labels, sorted, or reversed if their words imply it."""

    def rank(label: str) -> int:
        first = re.split(r"[\W_]+", label.strip().lower())[0]
        word = label.strip().lower()
        return (word in POSITIVE) - (word in NEGATIVE or first in ("not", "non", "no"))

    a, b = labels
    return (b, a) if rank(a) > rank(b) else labels
