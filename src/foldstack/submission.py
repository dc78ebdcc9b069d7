"""The sample submission: its expected columns, filled with predictions, and read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from foldstack.errors import InputError, cut, some
from foldstack.labels import joined_targets, labels_per_cell, matched, positions, spelled
from foldstack.metrics import Metric
from foldstack.settings import CompetitionSettings


@dataclass(frozen=True)
class Submission:
    """A competition's sample: `table` as text, with the test ids in the sample's order.

    Attributes:
        labels: the competition's: classes, labels, or names of regression targets.
        ids: (n,) the sample's ids as the test file spells them.
        repeated: columns of the test file, which are copied as they are.
    """

    path: Path
    table: pd.DataFrame
    settings: CompetitionSettings
    labels: tuple[str, ...]
    metric: Metric
    ids: np.ndarray
    repeated: tuple[str, ...] = ()

    @cached_property
    def columns(self) -> list[str]:
        """The columns to fill."""
        return [c for c in self.table.columns if c not in (self.settings.id, *self.repeated)]

    @cached_property
    def per_label(self) -> bool:
        """Whether there is a column per label, class or target, in any order."""
        return self._column_of is not None

    @cached_property
    def _column_of(self) -> dict[str, str] | None:
        """The column of each label, which may differ in case or white space; None without them."""
        if set(self.columns) == set(self.labels):
            return {label: label for label in self.labels}
        return matched(self.labels, self.columns)

    @cached_property
    def top(self) -> int | None:
        """The number of labels that a cell joins by spaces, for a metric of the most probable ones.

        None if there is a column per class, which probabilities fill.

        Raises InputError if a label itself holds a space.
        """
        if self.metric.top is None or self.per_label or len(self.columns) != 1:
            return None
        split = [label for label in self.labels if not label or label.split() != [label]]
        if split:
            raise InputError(
                f"{self.path}: {self.metric.name} joins labels by spaces, but label '{split[0]}' is "
                "empty or holds one: choose accuracy or log_loss, or rename the labels"
            )
        return self.metric.top

    @property
    def holds(self) -> str:
        """The noun for what is submitted: labels, probabilities or values."""
        if self.top is not None:
            return f"the {self.top} most probable labels"
        return "labels" if self.wants_labels else self.settings.kind.predicted

    @cached_property
    def wants_labels(self) -> bool:
        """Whether the submission holds labels, by the metric and the sample's columns.

        The sample's placeholder values are ignored.

        Raises InputError if the columns fit neither.
        """
        kind, asked = self.settings.kind, self.settings.submission
        self._check_columns()
        per_class = self.per_label and kind.one_class_per_row
        if asked != "auto":
            labels = asked == "labels"
        else:
            labels = self.metric.wants == "labels" and not per_class
        if labels and kind.is_values and self.metric.wants != "labels":
            raise InputError(
                "competition.yaml: `submission: labels` does not fit kind regression: remove it"
            )
        if labels and per_class:
            raise InputError(
                "competition.yaml: `submission: labels` does not fit a sample with one "
                "column per class: set `submission: probabilities`"
            )
        if self.top is None and not labels and kind.has_output_per_label and not self.per_label:
            one, several = kind.label_nouns
            raise InputError(
                f"{self.path}: probabilities of {len(self.labels)} "
                f"{several} do not fit the one column {some(self.columns)}: give it a column per "
                f"{one}, or choose a metric of labels"
            )
        return labels

    @cached_property
    def _shown(self) -> set[str]:
        """The values of the one column of labels; of cells that join several, these."""
        cells = set(self.table[self.columns[0]])
        return cells if self.top is None else {part for cell in cells for part in cell.split()}

    @property
    def _holds_names(self) -> bool:
        """Whether cells hold names of labels, one or the most probable ones."""
        of_names = self.settings.kind.has_labels and not self.settings.separator
        return of_names and (self.wants_labels or self.top is not None)

    @cached_property
    def spelled(self) -> tuple[str, ...]:
        """The labels as they are submitted: in the sample's spelling, if it shows another one."""
        if self.per_label or not self._holds_names:
            return self.labels
        return spelled(self.labels, self._shown)

    @property
    def label_remarks(self) -> list[str]:
        """Sentences about the spelling of labels, and values of the sample that are no label."""
        if self.per_label:
            return self._respelled([self._column_of[label] for label in self.labels])
        if not self._holds_names:
            return []
        if self.spelled != self.labels:
            return self._respelled(self.spelled)
        top = labels_per_cell(self._shown, self.labels)
        if top > 1 and self.top is None:
            return [
                f"{self.path.name} holds {top} labels in a cell, joined by spaces, and "
                f"{self.metric.name} submits one: METRIC=map_at_{top} submits {top}"
            ]
        odd = sorted(self._shown - set(self.labels) - {""})
        if not odd or (len(odd) == len(self._shown) == 1 and odd[0] in ("0", "0.0")):
            return []  # a placeholder
        verb = "is no label" if len(odd) == 1 else "are no labels"
        return [
            f"{self.path.name} holds {some(odd)}, which {verb} of the training file "
            f"({some(self.labels)}): look whether the spelling is right"
        ]

    def _respelled(self, texts: Sequence[str]) -> list[str]:
        """Return a sentence if labels are submitted as other texts."""
        both = [f"'{a}' for '{b}'" for a, b in zip(texts, self.labels, strict=True) if a != b]
        if not both:
            return []
        return [f"submitted in the spelling of {self.path.name}: {cut(', '.join(both))}"]

    def _check_columns(self) -> None:
        kind, columns = self.settings.kind, self.columns
        if self.per_label:
            return
        several = kind.is_values and len(self.labels) > 1
        if several or (kind.several_labels_per_row and not self.settings.separator):
            raise InputError(
                f"{self.path}: kind {kind} requires a column for each of {some(self.labels)}, "
                f"found {some(columns)}"
            )
        if len(columns) != 1:
            raise InputError(
                f"{self.path}: columns {some(columns)} are neither one column nor one for each of "
                f"{some(self.labels)}: fix `labels` or `target` in competition.yaml"
            )

    def fill(self, ids: np.ndarray, values: np.ndarray) -> pd.DataFrame:
        """Return the sample filled with (n, outputs) probabilities, values, or 0/1 decisions."""
        values = values[pd.Index(ids).get_indexer(self.ids)]
        return self._filled(self.table.copy(), values)

    def form(self, ids: np.ndarray, values: np.ndarray, given: pd.DataFrame) -> pd.DataFrame:
        """Return predictions (n, outputs) of other rows in the sample's columns.

        given: the table of these rows; columns that the sample repeats from the input are its own.
        """
        repeated = [c for c in self.table.columns if c not in (*self.columns, self.settings.id)]
        out = pd.DataFrame({self.settings.id: ids})
        for column in repeated:
            out[column] = given[column].to_numpy() if column in given.columns else ""
        return self._filled(out, values)[list(self.table.columns)]

    def _filled(self, out: pd.DataFrame, values: np.ndarray) -> pd.DataFrame:
        decided = self.wants_labels
        if self.per_label:
            full = (
                np.hstack([1 - values, values]) if self.settings.kind.has_positive_class else values
            )
            label_of = {column: label for label, column in self._column_of.items()}
            for column in self.columns:
                out[column] = self._texts(full[:, self.labels.index(label_of[column])])
        elif self.top is not None:
            out[self.columns[0]] = _joined_top(values, self.spelled, self.top)
        elif decided and not self.settings.kind.is_values:
            out[self.columns[0]] = np.array(
                label_texts(values, self.spelled, self.settings), object
            )
        else:
            out[self.columns[0]] = self._texts(values[:, 0])
        return out

    def _texts(self, values: np.ndarray) -> list[str]:
        if not self.wants_labels:
            return [f"{v:.8g}" for v in values]
        of_values = self.settings.kind.is_values
        return self.level_texts(values) if of_values else [f"{v:.0f}" for v in values]

    def level_texts(self, levels: np.ndarray) -> list[str]:
        """Return levels (n,) of a regression as text, whole numbers in the sample's spelling."""
        values, where = np.unique(levels, return_inverse=True)
        texts = spelled(tuple(f"{v:.8g}" for v in values), self.table[self.columns[0]])
        return [texts[k] for k in where]

    def read(self, path: Path, submitted: pd.DataFrame) -> np.ndarray:
        """Return (n, outputs) of a submission's file: probabilities, values, or 0/1 decisions."""
        kind = self.settings.kind
        if self.top is not None:
            return self._read_top(path, submitted[self.columns[0]])
        if self.per_label or kind.is_values or not self.wants_labels:
            columns = self.columns
            if self.per_label:
                columns = [self._column_of[label] for label in kind.outputs_of(self.labels)]
            wanted = submitted[columns]
            values = wanted.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
            _refuse(path, wanted, ~np.isfinite(values).all(axis=1), "a number")
            return values
        column = submitted[self.columns[0]]
        if kind.several_labels_per_row:
            values, bad = joined_targets(column, self.labels, self.settings.separator)
            _refuse(path, column.to_frame(), bad, "labels")
            return values
        index = positions(self.spelled, column)
        _refuse(path, column.to_frame(), index < 0, "one of the labels")
        if kind.has_positive_class:
            return index.astype(float)[:, None]
        return np.eye(len(self.labels))[index]

    def _read_top(self, path: Path, column: pd.Series) -> np.ndarray:
        """Return (n, classes): k, k - 1, … for the labels of a cell in their order, 0 for the others."""
        place = {label: k for k, label in enumerate(self.spelled)}
        rows = [text.split(" ") for text in column]
        bad = [
            len(row) > self.top or len(set(row)) < len(row) or not place.keys() >= set(row)
            for row in rows
        ]
        _refuse(path, column.to_frame(), np.array(bad), f"1 to {self.top} different labels")
        values = np.zeros((len(rows), len(place)))
        for i, row in enumerate(rows):
            values[i, [place[label] for label in row]] = self.top - np.arange(len(row))
        return values


def label_texts(
    decisions: np.ndarray, labels: tuple[str, ...], settings: CompetitionSettings
) -> list[str]:
    """Return the names of labels (n, outputs) of 0/1, several joined by the separator (or a bar)."""
    if settings.kind.several_labels_per_row:
        by = settings.separator or "|"
        return [by.join(labels[k] for k in np.flatnonzero(row)) for row in decisions]
    hit = (
        decisions[:, 0].astype(int)
        if settings.kind.has_positive_class
        else decisions.argmax(axis=1)
    )
    return [labels[k] for k in hit]


def _joined_top(probabilities: np.ndarray, labels: tuple[str, ...], top: int) -> list[str]:
    """Return the `top` most probable labels per row, joined by spaces, the first of equals first."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [" ".join(labels[k] for k in row) for row in order]


def _refuse(path: Path, values: pd.DataFrame, bad: np.ndarray, wanted: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        shown = ", ".join(values.iloc[rows[0]])
        raise InputError(
            f"{path}: row {values.index[rows[0]] + 1} holds '{shown}', which is not {wanted}: run `make "
            "submit` again"
        )
