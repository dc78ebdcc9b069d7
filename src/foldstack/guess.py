"""Guess the competition from three tables of text, each guess with its reason.

No questions are asked: what the data does not determine is an InputError that names the override.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from foldstack import metrics
from foldstack.competition_file import flow
from foldstack.costs import example
from foldstack.errors import InputError, nearest, some
from foldstack.kinds import Kind
from foldstack.labels import FALSE, TRUE, number_or_text
from foldstack.separators import find_separator, join_of, parts_of

OVERRIDES = ("metric", "kind", "id", "text", "target", "pair")
MANY_NUMBERS = 20  # from this many distinct whole numbers on they may be quantities
MANY_SHARE = 0.05  # … if they are also this share of the rows
RARE = 0.2
LOOKED_AT = 2000  # rows whose texts are read to detect words and scripts
GROUP = re.compile(r"group|grp|group_?(id|key|name|no)|grp_?id|fold_?group", re.IGNORECASE)
WEIGHT = re.compile(r"(sample|row)?_?weights?", re.IGNORECASE)
DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}\b.*|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}\b.*", re.DOTALL)
ROW_NUMBER = re.compile(r"|index|row|unnamed: \d+|__index_level_\d+__", re.IGNORECASE)
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
NO_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


@dataclass
class Guess:
    """Settings for competition.yaml, and why: (setting, value, sentence) in the order of guessing.

    A reason whose value is None is about a column that no setting names. `examples` are settings that
    the data suggests and the user must decide.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    reasons: list[tuple[str, Any, str]] = field(default_factory=list)
    examples: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        return Kind(self.settings["kind"])

    def set(self, setting: str, value: Any, reason: str) -> None:
        self.settings[setting] = value
        self.reasons.append((setting, value, reason))

    def unused(self, column: str, why: str) -> None:
        self.reasons.append((column, None, f"not used: {why}"))

    def unused_time(self, column: str) -> None:
        self.examples.setdefault("time", column)
        self.unused(
            column, f"it holds dates; `time: {column}` with `folds.kind: time` sorts by them"
        )


@dataclass
class GivenTables:
    """The three tables and the overrides; columns are assigned one after the other."""

    train: pd.DataFrame
    test: pd.DataFrame
    sample: pd.DataFrame
    given: dict[str, str]
    id: str = ""

    @cached_property
    def sample_columns(self) -> list[str]:
        return [c for c in self.sample.columns if c != self.id]

    @cached_property
    def train_only(self) -> list[str]:
        return [c for c in self.train.columns if c != self.id and c not in self.test.columns]

    @cached_property
    def shared(self) -> list[str]:
        return [c for c in self.train.columns if c != self.id and c in self.test.columns]

    def columns(self, what: str) -> tuple[str, ...]:
        """Return the train columns that an override names: one whole name, or a comma list."""
        text = self.given[what]
        names = [text] if text in self.train.columns else [part.strip() for part in text.split(",")]
        for name in names:
            if name not in self.train.columns:
                raise InputError(
                    f"{what.upper()}={text}: train has no column '{name}' "
                    f"({nearest(name, self.train.columns)})"
                )
        return tuple(dict.fromkeys(names))


def guess(
    train: pd.DataFrame,
    test: pd.DataFrame,
    sample: pd.DataFrame,
    overrides: Mapping[str, str | None] | None = None,
) -> Guess:
    """Return the settings of a competition from its three tables.

    Args:
        train, test, sample: tables of text.
        overrides: `metric`, `kind`, `id`, `text`, `target`, `pair`; the last three may be comma lists
            of columns. Empty ones count as not given.

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
    tables, found = GivenTables(train, test, sample, given), Guess()
    _id(tables, found)
    _target(tables, found)
    _kind(tables, found)
    _text(tables, found)
    _other_columns(tables, found)
    _metric(tables, found)
    _models(tables, found)
    return found


# The id


def _id(tables: GivenTables, found: Guess) -> None:
    train, test, sample = tables.train, tables.test, tables.sample
    shared = [c for c in sample.columns if c in test.columns]
    given = tables.given.get("id")
    if given:
        for name, table in (("the sample", sample), ("test", test)):
            if given not in table.columns:
                raise InputError(
                    f"ID={given}: {name} has no column '{given}' ({nearest(given, table.columns)})"
                )
        shared = [given]
    if not shared:
        raise InputError(
            f"test (columns {some(list(test.columns))}) and the sample (columns "
            f"{some(list(sample.columns))}) share no id column: add one with a different value in each "
            "row to both"
        )
    unique = [c for c in shared if test[c].is_unique]
    if not unique:
        row = np.flatnonzero(test[shared[0]].duplicated())[0]
        raise InputError(
            f"test, row {row + 1} repeats '{shared[0]}' '{test[shared[0]].iloc[row]}', and no other "
            "column of the sample names its rows: give every row an id of its own"
        )
    tables.id = unique[0]
    why = (
        "given by ID=" if given else "the sample's column that test has too, different in each row"
    )
    if not given and unique[0] == sample.columns[0]:
        why = "the sample's first column, which test has too, different in each row"
    found.set("id", tables.id, why)
    if tables.id not in train.columns:
        found.set(
            "train_has_id", False, f"train has no column '{tables.id}': its rows are numbered"
        )


# The target


def _target(tables: GivenTables, found: Guess) -> None:
    if "target" in tables.given:
        target = tables.columns("target")
        found.set("target", target, "given by TARGET=")
    else:
        found.set("target", *_found_target(tables))
        target = found.settings["target"]
    for column in target:
        if column == tables.id:
            raise InputError(
                f"column '{column}' cannot be both id and target: give another TARGET="
            )
    tables.train_only = [c for c in tables.train_only if c not in target]
    tables.shared = [c for c in tables.shared if c not in target]


def _found_target(tables: GivenTables) -> tuple[tuple[str, ...], str]:
    wanted = tables.sample_columns
    if not wanted:
        raise InputError(
            f"the sample has no column but '{tables.id}': what is to be predicted is missing there"
        )
    named = [c for c in wanted if c in tables.train_only]
    if named == wanted:
        it = "it" if len(named) == 1 else "them"
        return tuple(named), f"the sample asks for {it}, train has {it} and test does not"
    if named:
        odd = [c for c in wanted if c not in named]
        raise InputError(
            f"the sample's columns {some(odd)} are not in train beside {some(named)} (or are in test "
            f"too): fix the files, or name the target with TARGET="
        )
    candidates = [c for c in tables.train_only if not WEIGHT.fullmatch(c)]
    if len(wanted) > 1:
        return _of_classes(tables, candidates, set(wanted))
    likely = [c for c in candidates if _may_be_target(c, tables.train[c])]
    if len(likely) == 1:
        return (likely[0],), (
            f"the only column of train that test lacks and that can be a target; the sample calls it "
            f"'{wanted[0]}'"
        )
    found = f"several could be it: {some(likely)}" if likely else "test has all that could be one"
    raise InputError(
        f"train has no column '{wanted[0]}', for which the sample asks, and {found}: name the target "
        "with TARGET="
    )


def _of_classes(
    tables: GivenTables, candidates: list[str], wanted: set[str]
) -> tuple[tuple[str, ...], str]:
    """Return the target whose classes, or joined labels, are the sample's columns, and why."""
    near: dict[str, set[str]] = {}
    for column in candidates:
        values = _different(tables.train[column])
        if values == wanted:
            return (column,), "its classes are the sample's columns"
        if join_of(values, wanted):
            return (column,), "the labels that its cells join are the sample's columns"
        separator = find_separator(values)
        classes = parts_of(values, separator) if separator else values
        if 2 * len(classes & wanted) >= len(wanted):
            near[column] = classes
    if near:
        column = max(near, key=lambda c: len(near[c] & wanted))
        _refuse_classes(column, near[column], wanted)
    raise InputError(
        f"no column of train has the sample's columns {some(sorted(wanted))} as its classes, nor does "
        "train have them as columns: name the target with TARGET="
    )


def _refuse_classes(column: str, classes: set[str], wanted: set[str]) -> None:
    odd = []
    for only, where in ((classes - wanted, "train"), (wanted - classes, "the sample")):
        if only:
            verb = "stands" if len(only) == 1 else "stand"
            odd.append(f"{some(sorted(only, key=number_or_text))} {verb} only in {where}")
    raise InputError(
        f"the classes of train's column '{column}' are not the sample's columns: {' and '.join(odd)}: "
        "fix the files, or name another TARGET="
    )


def _may_be_target(name: str, column: pd.Series) -> bool:
    if GROUP.fullmatch(name) or ROW_NUMBER.fullmatch(name):
        return False
    values = _different(column)
    if len(values) < 2 or _dates(column):
        return False
    return _numeric(values) or len(values) <= len(column) / 2 or not _reads_like_text(column)


# The kind, its labels and separator


def _kind(tables: GivenTables, found: Guess) -> None:
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
        raise InputError(
            f"kind {kind} requires one target column, got {some(target)}: name one with TARGET="
        )
    column = tables.train[target[0]]
    if separator and kind.several_labels_per_row:
        joined = column.str.contains(separator.strip() or separator, regex=False).sum()
        rows = f"{joined:,} {'row holds' if joined == 1 else 'rows hold'}"
        found.set("separator", separator, f"{rows} several labels joined by {separator!r}")
    if len(target) == 1 and (kind.one_class_per_row or separator):
        _labels(tables, found, _different(column))


def _kind_of(tables: GivenTables, target: tuple[str, ...]) -> tuple[Kind, str, str | None]:
    """Return (kind, why, separator) for the values of the target columns."""
    if len(target) > 1:
        return (*_kind_of_several(tables, target), None)
    column = tables.train[target[0]]
    values = _different(column)
    wanted = set(tables.sample_columns)
    separator = join_of(values, wanted) if len(wanted) > 1 and values != wanted else None
    if separator is None and len(values - {""}) > 2 and not _numeric(values):
        separator = find_separator(values)
    if separator:
        return Kind.MULTILABEL, f"cells of '{target[0]}' join several labels", separator
    _refuse_empty(column)
    return (*_kind_of_one(tables, column, values), None)


def _kind_of_several(tables: GivenTables, target: tuple[str, ...]) -> tuple[Kind, str]:
    for column in target:
        _refuse_empty(tables.train[column])
    values = {v for column in target for v in tables.train[column].unique()}
    if values <= TRUE | FALSE:
        return Kind.MULTILABEL, f"{len(target)} target columns of 0 and 1"
    if _numeric(values):
        return Kind.REGRESSION, f"{len(target)} target columns of numbers"
    word = min(v for v in values if not _number(v) and v not in TRUE | FALSE)
    raise InputError(
        f"the target columns {some(target)} hold '{word}' besides: several targets are 0/1 columns or "
        "numbers; name others with TARGET="
    )


def _kind_of_one(tables: GivenTables, column: pd.Series, values: set[str]) -> tuple[Kind, str]:
    name, n = column.name, len(values)
    if n == 1:
        raise InputError(
            f"train's target column '{name}' holds nothing but '{next(iter(values))}': give another "
            "TARGET="
        )
    if n == 2:
        return Kind.BINARY, f"'{name}' holds two different values"
    if set(tables.sample_columns) == values:
        return Kind.MULTICLASS, f"the sample has a column for each of the {n} classes of '{name}'"
    if not _numeric(values):
        if n > MANY_NUMBERS and n > len(column) / 2:
            raise InputError(
                f"train's target column '{name}' holds {n:,} different texts in {len(column):,} rows, "
                "too many for classes: name another TARGET="
            )
        return Kind.MULTICLASS, f"'{name}' holds {n} different names"
    if any(not float(v).is_integer() for v in values):
        return Kind.REGRESSION, f"'{name}' holds numbers with decimals"
    if n > MANY_NUMBERS and n > MANY_SHARE * len(column):
        return Kind.REGRESSION, (
            f"'{name}' holds {n:,} different whole numbers in {len(column):,} rows; KIND=multiclass "
            "makes them classes"
        )
    if _decimals(tables) and not any("." in v for v in values):
        return (
            Kind.REGRESSION,
            f"'{name}' holds whole numbers, but the sample numbers with decimals",
        )
    return Kind.MULTICLASS, (
        f"'{name}' holds {n} different whole numbers; KIND=regression makes them quantities"
    )


def _kind_of_metric(
    tables: GivenTables, target: tuple[str, ...], kind: Kind, why: str
) -> tuple[Kind, str]:
    """Return the kind of a numeric target that a given metric decides: classes or quantities."""
    metric = tables.given["metric"]
    values = {v for column in target for v in tables.train[column].unique()}
    if _own(metric) or not _numeric(values):
        return kind, why
    other = Kind.REGRESSION if kind.has_labels else Kind.MULTICLASS
    fits_other = _fits(metric, other) and (other.is_values or len(target) == 1)
    # Of a metric for both, classes are taken: KIND=regression asks for the other.
    if fits_other and (other.has_labels or not _fits(metric, kind)):
        return other, f"METRIC={metric} is for it"
    return kind, why


def _own(metric: str) -> bool:
    return ".py" in metric or ":" in metric


def _fits(metric: str, kind: Kind) -> bool:
    try:
        return bool(metrics.get(metric, kind))
    except InputError:
        return False


def _given_separator(tables: GivenTables, kind: Kind, target: tuple[str, ...]) -> str | None:
    values = _different(tables.train[target[0]])
    if kind.several_labels_per_row and len(target) == 1 and not (values <= TRUE | FALSE):
        wanted = set(tables.sample_columns)
        separator = join_of(values, wanted) or find_separator(values)
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
    for name in target:
        _refuse_empty(tables.train[name])
    return None


def _refuse_empty(column: pd.Series) -> None:
    empty = np.flatnonzero(column == "")
    if len(empty):
        raise InputError(
            f"train, row {empty[0] + 1}: target column '{column.name}' is empty, and so it is in "
            f"{len(empty) - 1} more rows: fill it, or take the rows out"
        )


def _labels(tables: GivenTables, found: Guess, values: set[str]) -> None:
    wanted, target = set(tables.sample_columns), found.settings["target"][0]
    separator = found.settings.get("separator")
    classes = parts_of(values, separator) if separator else values
    if len(wanted) > 1 and classes != wanted:
        _refuse_classes(target, classes, wanted)
    labels = tuple(sorted(classes, key=number_or_text))
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


# Inputs


def _text(tables: GivenTables, found: Guess) -> None:
    given = tables.given
    if "pair" in given or "text" in given:
        what = "pair" if "pair" in given else "text"
        text = tables.columns(what)
        _check_inputs(tables, found, what, text)
        found.set("text", text, f"given by {what.upper()}=")
        if what == "pair":
            found.set("pair", True, "given by PAIR=: the two are a sentence pair")
    else:
        text = _found_text(tables)
        found.set("text", *text)
    chosen = found.settings["text"]
    tables.shared = [c for c in tables.shared if c not in chosen]


def _check_inputs(tables: GivenTables, found: Guess, what: str, text: tuple[str, ...]) -> None:
    if what == "pair" and len(text) != 2:
        raise InputError(f"PAIR={tables.given[what]} names {len(text)} column: name two, PAIR=a,b")
    for column in text:
        if column in found.settings["target"]:
            raise InputError(f"{what.upper()}: column '{column}' cannot be both target and input")
        if column not in tables.test.columns:
            raise InputError(f"{what.upper()}: test has no column '{column}'")


def _found_text(tables: GivenTables) -> tuple[tuple[str, ...], str]:
    shared = [c for c in tables.shared if not ROW_NUMBER.fullmatch(c)]
    words = [
        c for c in shared if not _numeric(tables.train[c].unique()) and not _dates(tables.train[c])
    ]
    text = [c for c in words if _reads_like_text(tables.train[c])]
    if len(text) > 1:
        return tuple(text), (
            "these columns of train and test read like text; they are joined by a space, unless "
            "`template` or PAIR= says otherwise"
        )
    if text:
        return tuple(text), "the column of train and test that reads like text"
    if not words:
        raise InputError(
            f"no column that train and test share ({some(tables.shared) or 'none'}) holds text: name it "
            "with TEXT="
        )
    longest = max(words, key=lambda c: tables.train[c].str.len().mean())
    return (longest,), "no column reads like sentences; this one's words are the longest"


def _other_columns(tables: GivenTables, found: Guess) -> None:
    """Set groups, weights and features; report unused columns."""
    train = tables.train
    for column in [c for c in (*tables.train_only, *tables.shared) if GROUP.fullmatch(c)]:
        if train[column].nunique() < len(train) and "group" not in found.settings:
            found.set("group", column, "by its name; rows of one group share a fold")
    for column in [c for c in tables.train_only if WEIGHT.fullmatch(c)]:
        if _numeric(train[column].unique()) and "weight" not in found.settings:
            found.set("weight", column, "by its name, and train alone has it")
    taken = {found.settings.get("group"), found.settings.get("weight")}
    for column in [c for c in (*tables.shared, *tables.train_only) if c not in taken]:
        if _dates(train[column]):
            found.unused_time(column)
            taken.add(column)
    _features(tables, found, [c for c in tables.shared if c not in taken])
    for column in [c for c in tables.train_only if c not in taken]:
        found.unused(column, "test does not have it")


def _features(tables: GivenTables, found: Guess, columns: list[str]) -> None:
    numeric, categorical = [], []
    for column in columns:
        train, n = tables.train[column], len(tables.train)
        values = _different(train)
        if len(values) == 1:
            found.unused(column, "it holds one value only")
        elif ROW_NUMBER.fullmatch(column) and len(values) == n:
            found.unused(column, "it numbers the rows")
        elif _numeric((values | _different(tables.test[column])) - {""}):
            numeric.append(column)
        elif len(values) <= n / 2 and len(values) <= max(MANY_NUMBERS, n / 10):
            categorical.append(column)
        else:
            found.unused(column, "no sentences, no numbers, no few words that repeat; see TEXT=")
    if numeric:
        found.set("numeric", tuple(numeric), "numbers that train and test share, offered to stacks")
    if categorical:
        found.set("categorical", tuple(categorical), "few words that repeat, offered to stacks")


# The metric


def _metric(tables: GivenTables, found: Guess) -> None:
    kind = found.kind
    if "metric" in tables.given:
        name = tables.given["metric"]
        if name == "cost" and kind.has_labels:
            raise InputError(
                "METRIC=cost: what decisions cost cannot be guessed: leave METRIC out, and then set "
                f"`metric: cost` and `costs: {_costs(found)}` in competition.yaml, with your "
                "own numbers"
            )
        if not _own(name):  # a workspace's own is looked up there
            name = metrics.get(name, kind).name
        return found.set("metric", name, "given by METRIC=")
    name, why = {
        Kind.BINARY: _binary_metric,
        Kind.MULTICLASS: _multiclass_metric,
        Kind.MULTILABEL: _multilabel_metric,
        Kind.REGRESSION: _regression_metric,
    }[kind](tables, found.settings)
    found.set("metric", name, f"{why}; METRIC= overrides")


def _costs(found: Guess) -> str:
    """Return an example of costs with the labels found."""
    if found.kind.several_labels_per_row:
        return example(Kind.MULTILABEL)
    first, *_, last = found.settings["labels"]
    return flow({first: {last: 1}, last: {first: 5}})


def _binary_metric(tables: GivenTables, settings: dict) -> tuple[str, str]:
    if len(tables.sample_columns) > 1:
        return "log_loss", "the sample has a column of probabilities for each class"
    placeholders = _different(tables.sample[tables.sample_columns[0]])
    labels, target = settings["labels"], tables.train[settings["target"][0]]
    if not placeholders <= set(labels):
        return "roc_auc", "the sample holds no labels of train, so probabilities"
    if len(placeholders) == 1 and set(labels) <= TRUE | FALSE and _numeric(labels):
        return "roc_auc", (
            f"the sample holds '{next(iter(placeholders))}' throughout, which does not distinguish "
            "labels from probabilities"
        )
    share = (target == labels[1]).mean()
    if share < RARE:
        return "f1", f"the sample holds labels, and '{labels[1]}' is rare ({share:.1%})"
    return "accuracy", f"the sample holds labels, and '{labels[1]}' is not rare ({share:.1%})"


def _multiclass_metric(tables: GivenTables, settings: dict) -> tuple[str, str]:
    if len(tables.sample_columns) > 1:
        return "log_loss", "the sample has a column of probabilities for each class"
    counts = tables.train[settings["target"][0]].value_counts()
    sizes = f"from {counts.min():,} to {counts.max():,} rows"
    if counts.max() <= 3 * counts.min():
        return "accuracy", f"the sample holds labels, and the classes are balanced ({sizes})"
    return "f1_macro", f"the sample holds labels, and the classes are not balanced ({sizes})"


def _multilabel_metric(tables: GivenTables, settings: dict) -> tuple[str, str]:
    if _decimals(tables):
        return "roc_auc", "the sample holds numbers with decimals, so probabilities"
    if "separator" in settings:
        return "f1_micro", "the sample holds labels, and train joins them in one column"
    return "f1_macro", "the sample holds 0 and 1 for each label"


def _regression_metric(tables: GivenTables, settings: dict) -> tuple[str, str]:
    if len(settings["target"]) > 1:
        return "mcrmse", "the mean over several targets of the root mean squared error"
    return "rmse", "the usual one for numbers"


# Models


def _models(tables: GivenTables, found: Guess) -> None:
    texts = (t for c in found.settings["text"] for t in tables.train[c].head(LOOKED_AT))
    script = _script(texts)
    if script == "CJK":
        model, why = "macbert", "most letters are Chinese characters"
    elif script == "LATIN":
        model, why = "minilm", "most letters are Latin; minilm is for English and runs anywhere"
    else:
        model, why = "xlm-roberta", f"most letters are {script.capitalize()}"
    found.set("models", ("tfidf", model), why)


def _script(texts: Iterable[str]) -> str:
    """Return the script of most letters; kana beside Chinese characters make it Japanese."""
    scripts: Counter[str] = Counter()
    for letter, count in Counter("".join(texts)).items():
        if letter.isalpha():
            scripts[_script_of(letter)] += count
    kana = scripts["HIRAGANA"] + scripts["KATAKANA"]
    if 10 * kana > scripts["CJK"] + kana > scripts.total() / 2:
        return "JAPANESE"
    return scripts.most_common(1)[0][0] if scripts else "LATIN"


def _script_of(letter: str) -> str:
    return re.split(r"[ -]", unicodedata.name(letter, "LATIN"))[0]


# What columns hold


def _numeric(values: Collection[str]) -> bool:
    """Return whether all are finite numbers, and there are any; stops at the first that is not."""
    return len(values) > 0 and all(map(_number, values))


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text.isascii() and "_" not in text
    except ValueError:
        return False


def _different(column: pd.Series) -> set[str]:
    return set(column.unique())  # far quicker than a set of all cells


def _dates(column: pd.Series) -> bool:
    looked_at = [v for v in column.head(LOOKED_AT) if v]
    return bool(looked_at) and all(DATE.fullmatch(v.strip()) for v in looked_at)


def _decimals(tables: GivenTables) -> bool:
    """Return whether the sample holds numbers with a decimal point."""
    values = {v for c in tables.sample_columns for v in tables.sample[c].unique()}
    return _numeric(values) and any("." in v or not float(v).is_integer() for v in values)


def _reads_like_text(column: pd.Series) -> bool:
    """Return whether cells have several words on average, and mostly differ or are long."""
    cells = [v for v in column.head(LOOKED_AT) if v]
    if not cells or all(re.fullmatch(r"https?://\S+", v) for v in cells):
        return False
    words = sum(map(_words, cells)) / len(cells)
    different = len(set(cells)) / len(cells)
    return words >= 3 and (different >= 0.3 or (words >= 8 and len(set(cells)) > MANY_NUMBERS))


def _words(text: str) -> float:
    """Return the number of words; in scripts without spaces two letters count as a word."""
    if text.isascii():
        return len(text.split())
    unspaced = sum(_script_of(c) in NO_SPACES for c in text if c.isalpha() and not c.isascii())
    return len(text.split()) + unspaced / 2
