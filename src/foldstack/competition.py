"""The competition: its files read and checked once, labels turned into targets and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from foldstack import config, metrics
from foldstack.config import CompetitionSettings
from foldstack.errors import InputError, nearest
from foldstack.files import read_table
from foldstack.learners import Task
from foldstack.rows import Rows, duplicate_groups, normalise

TRUE, FALSE = {"1", "1.0", "true", "True"}, {"0", "0.0", "false", "False"}


@dataclass(frozen=True)
class Competition:
    """A workspace's competition, read lazily and checked as it is read.

    Nothing here reads `input/private`: the solution is for the score stage alone.
    """

    root: Path
    settings: CompetitionSettings

    @classmethod
    def load(cls, root: Path, overrides: dict | None = None) -> Competition:
        return cls(root, config.load_competition(root / "competition.yaml", overrides or {}))

    @property
    def kind(self) -> str:
        return self.settings.kind

    @cached_property
    def metric(self) -> metrics.Metric:
        return metrics.get(self.settings.metric, self.kind)

    @cached_property
    def task(self) -> Task:
        """What a learner must know."""
        return Task(self.kind, self.link, self.outputs, self.metric)

    @property
    def link(self) -> str:
        """How raw outputs become probabilities."""
        return "softmax" if self.kind == "multiclass" else "sigmoid"

    # The files

    @cached_property
    def _train_table(self) -> pd.DataFrame:
        s = self.settings
        extra = [c for c in (s.group, s.weight) if c]
        return self._table("train.csv", [s.id, *s.text, *s.target, *extra])

    @cached_property
    def _test_table(self) -> pd.DataFrame:
        return self._table("test.csv", [self.settings.id, *self.settings.text])

    def _table(self, name: str, columns: list[str]) -> pd.DataFrame:
        path = self.root / "input" / name
        table = read_table(path, self.settings.encoding)
        for column in columns:
            self._require(path, table, column)
        self.check_ids(path, table[self.settings.id])
        return table

    @staticmethod
    def _require(path: Path, table: pd.DataFrame, column: str) -> None:
        if column not in table.columns:
            raise InputError(
                f"{path}: column '{column}' is missing "
                f"({nearest(column, table.columns)}): mend the file or "
                "competition.yaml"
            )

    def check_ids(self, path: Path, ids: pd.Series) -> None:
        column = self.settings.id
        empty = np.flatnonzero(ids == "")
        if len(empty):
            raise InputError(
                f"{path}: row {empty[0] + 1} has an empty '{column}': every row needs "
                "an id of its own"
            )
        twice = np.flatnonzero(ids.duplicated())
        if len(twice):
            value = ids.iloc[twice[0]]
            raise InputError(
                f"{path}: row {twice[0] + 1} repeats '{column}' '{value}': every row "
                "needs an id of its own"
            )

    @cached_property
    def train(self) -> Rows:
        table, s = self._train_table, self.settings
        texts = self._texts(table)
        keys = list(table[s.group]) if s.group else None
        return Rows(
            ids=table[s.id].to_numpy(dtype=object),
            texts=texts,
            targets=self.targets_of(table, self.root / "input/train.csv"),
            weights=self._weights(table),
            groups=duplicate_groups(texts, keys),
            origin=np.full(len(table), "gold", dtype=object),
        )

    @cached_property
    def test(self) -> Rows:
        table = self._test_table
        texts = self._texts(table)
        n = len(table)
        return Rows(
            ids=table[self.settings.id].to_numpy(dtype=object),
            texts=texts,
            targets=None,
            weights=np.ones(n),
            groups=duplicate_groups(texts),
            origin=np.full(n, "gold", dtype=object),
        )

    @cached_property
    def fold_groups(self) -> np.ndarray:
        """(n,) int: training rows that must share a fold; without dedupe, only a group column's."""
        if self.settings.folds.dedupe:
            return self.train.groups
        if self.settings.group is None:
            return np.arange(len(self.train))
        no_texts = [("",)] * len(self.train)
        return duplicate_groups(no_texts, list(self._train_table[self.settings.group]))

    def _texts(self, table: pd.DataFrame) -> list[tuple[str, ...]]:
        return list(zip(*(table[c].tolist() for c in self.settings.text), strict=True))

    def _weights(self, table: pd.DataFrame) -> np.ndarray:
        column = self.settings.weight
        if column is None:
            return np.ones(len(table))
        weights = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
        bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if len(bad):
            raise InputError(
                f"{self.root / 'input/train.csv'}: row {bad[0] + 1}: weight column "
                f"'{column}' holds '{table[column].iloc[bad[0]]}': weights are numbers "
                "of 0 or more"
            )
        return weights

    def check(self) -> None:
        """Read all three files now, so that nothing in them is refused after hours of training."""
        _ = self.train, self.test, self.wants_labels

    # Labels and targets

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, or of the labels of a multilabel competition.

        In a binary competition the last one is the positive class.
        """
        s = self.settings
        if self.kind == "multilabel":
            return s.target
        if len(s.target) != 1:
            raise InputError(
                f"competition.yaml: kind {self.kind} wants one target column, got "
                f"{len(s.target)}: {', '.join(s.target)}"
            )
        found = set(self._train_table[s.target[0]])
        labels = s.labels or tuple(sorted(found, key=_number_or_text))
        if self.kind == "binary" and len(labels) != 2:
            raise InputError(
                f"{self.root / 'input/train.csv'}: kind binary wants two labels in "
                f"column '{s.target[0]}', found {len(labels)}: {_some(labels)}; mend "
                "the column or set `kind: multiclass`"
            )
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise InputError(
                f"competition.yaml: labels are {_some(labels)}: at least two different "
                "ones are wanted"
            )
        return labels

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of a learner's outputs, in order."""
        return self.labels[1:] if self.kind == "binary" else self.labels

    def targets_of(self, table: pd.DataFrame, path: Path) -> np.ndarray:
        """(n, outputs) targets of a table's label column(s); InputError naming path and row."""
        s = self.settings
        for column in s.target:
            self._require(path, table, column)
        if self.kind == "multilabel":
            return np.column_stack([self._zero_one(path, table[c]) for c in s.target])
        index = pd.Index(self.labels).get_indexer(table[s.target[0]])
        bad = np.flatnonzero(index < 0)
        if len(bad):
            raise InputError(
                f"{path}: row {bad[0] + 1}: column '{s.target[0]}' holds "
                f"'{table[s.target[0]].iloc[bad[0]]}', which is none of the labels "
                f"{_some(self.labels)}: mend the row or `labels` in competition.yaml"
            )
        if self.kind == "binary":
            return index.astype(float)[:, None]
        return np.eye(len(self.labels))[index]

    def _zero_one(self, path: Path, column: pd.Series) -> np.ndarray:
        bad = np.flatnonzero(~column.isin(TRUE | FALSE))
        if len(bad):
            raise InputError(
                f"{path}: row {bad[0] + 1}: column '{column.name}' holds "
                f"'{column.iloc[bad[0]]}': kind multilabel wants 0 or 1"
            )
        return column.isin(TRUE).to_numpy(dtype=float)

    # The submission

    @cached_property
    def sample(self) -> pd.DataFrame:
        """The sample submission; its ids are the test file's, its columns are ours to fill."""
        path = self.root / "input/sample_submission.csv"
        table = read_table(path, self.settings.encoding)
        id_column = self.settings.id
        self._require(path, table, id_column)
        self.check_ids(path, table[id_column])
        wanted, given = set(self.test.ids), set(table[id_column])
        for a, b, where in ((given, wanted, "input/test.csv"), (wanted, given, path.name)):
            only = sorted(a - b)
            if only:
                raise InputError(
                    f"{path}: ids differ from input/test.csv: '{only[0]}' and "
                    f"{len(only) - 1} more are missing in {where}"
                )
        return table

    @cached_property
    def wants_labels(self) -> bool:
        """Whether the submission holds labels, by the metric and the sample's columns.

        The sample's placeholder values are never looked at.
        """
        s, columns = self.settings, [c for c in self.sample.columns if c != self.settings.id]
        per_class = set(columns) == set(self.labels)
        if not per_class and len(columns) != 1:
            raise InputError(
                f"{self.root / 'input/sample_submission.csv'}: columns "
                f"{_some(columns)} are neither one column nor one for each of "
                f"{_some(self.labels)}: mend `labels` or `target` in competition.yaml"
            )
        if self.kind == "multilabel" and not per_class:
            raise InputError(
                f"{self.root / 'input/sample_submission.csv'}: kind multilabel wants a "
                f"column for each of {_some(self.labels)}, found {_some(columns)}"
            )
        classes = per_class and self.kind != "multilabel"
        if s.submission != "auto":
            labels = s.submission == "labels"
        else:
            labels = self.metric.wants == "labels" and not classes
        if labels and classes:
            raise InputError(
                "competition.yaml: `submission: labels` does not fit a sample with one "
                "column per class: set `submission: probabilities`"
            )
        if not labels and self.kind == "multiclass" and not classes:
            raise InputError(
                f"{self.root / 'input/sample_submission.csv'}: probabilities of "
                f"{len(self.labels)} classes do not fit the one column "
                f"{_some(columns)}: give it a column per class, or choose a metric of "
                "labels"
            )
        return labels

    def submission(self, values: np.ndarray) -> pd.DataFrame:
        """The sample filled with (n, outputs) probabilities, or 0/1 decisions, for the test rows."""
        columns = [c for c in self.sample.columns if c != self.settings.id]
        order = pd.Index(self.test.ids).get_indexer(self.sample[self.settings.id])
        values = values[order]
        out = self.sample.copy()
        if self.kind == "multilabel" or len(columns) > 1:
            full = np.hstack([1 - values, values]) if self.kind == "binary" else values
            for column in columns:
                out[column] = _texts_of(full[:, self.labels.index(column)], self.wants_labels)
        elif self.wants_labels:
            hit = values[:, 0].astype(int) if self.kind == "binary" else values.argmax(axis=1)
            out[columns[0]] = np.array(self.labels, dtype=object)[hit]
        else:
            out[columns[0]] = _texts_of(values[:, 0], False)
        return out

    # What the data says of itself

    @cached_property
    def repeated_in_test(self) -> tuple[int, int]:
        """(training rows whose text stands in test, test rows whose text stands in training)."""
        train = [normalise(t) for t in self.train.texts]
        test = [normalise(t) for t in self.test.texts]
        in_test, in_train = set(test), set(train)
        return (
            sum(t in in_test for t in train if t.strip("\x1f")),
            sum(t in in_train for t in test if t.strip("\x1f")),
        )


def _texts_of(values: np.ndarray, labels: bool) -> list[str]:
    return [f"{v:.0f}" if labels else f"{v:.8g}" for v in values]


def _number_or_text(label: str) -> tuple[int, float, str]:
    try:
        number = float(label)
    except ValueError:
        return (1, 0.0, label)
    # `nan` and `inf` are words here: nan would leave the order to chance.
    return (0, number, label) if math.isfinite(number) else (1, 0.0, label)


def _some(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(f"'{n}'" for n in names[:6])
    return shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")
