"""The costs of decisions: the setting `costs`, checked against the labels, and the cost of rows.

For classes costs are a matrix (classes, classes) with a row per truth and a column per decision; for
labels (labels, 2): of a false positive and of a false negative. Only differences within a truth affect
decisions (Elkan 2001, "The Foundations of Cost-Sensitive Learning"), so benefits, which are negative
costs, are written by adding the same number to all costs of a truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from foldstack.errors import InputError, cut, nearest, shown
from foldstack.kinds import Kind
from foldstack.tables import read_table
from foldstack.tables.form import TableForm

Costs = tuple[tuple[float, ...], ...]
Given = Mapping[str, "float | Mapping[str, float]"]

ERRORS = ("false_positive", "false_negative")
EXAMPLE = {False: "{no: {yes: 1}, yes: {no: 5}}", True: "{false_positive: 1, false_negative: 5}"}


def example(kind: Kind) -> str:
    """Return an example of costs for this kind of target."""
    return EXAMPLE[kind.several_labels_per_row]


def cost_of(text: object) -> float:
    """Return a cost from the text in a file.

    Raises:
        ValueError: it is no finite number of 0 or more.
    """
    try:
        number = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < np.inf:
        raise ValueError(f"a cost is a number of 0 or more, not {shown(text)}")
    return number


def read_costs(path: Path, form: TableForm | str) -> dict[str, dict[str, float]]:
    """Read costs from a table with names in the first column and the header; skip empty cells.

    Raises:
        InputError: the file cannot be read, a name is repeated, or a cell holds no cost.
    """
    table = read_table(path, form)
    names = table.iloc[:, 0]
    twice = np.flatnonzero(names.duplicated())
    if len(twice):
        raise InputError(
            f"{path}: row {twice[0] + 1} repeats '{cut(names.iloc[twice[0]])}': one row each is expected"
        )
    found: dict[str, dict[str, float]] = {}
    for number, (name, *cells) in enumerate(table.itertuples(index=False, name=None), 1):
        found[name] = {}
        for column, cell in zip(table.columns[1:], cells, strict=True):
            try:
                found[name] |= {column: cost_of(cell)} if cell.strip() else {}
            except ValueError as e:
                raise InputError(f"{path}: row {number}, column '{column}': {e}") from None
    return found


def cost_table(given: Given, kind: Kind, labels: Sequence[str], source: str) -> Costs:
    """Return the costs of every decision, from the given ones.

    A cost that is not given is 1 for a mistake and 0 for a right decision.

    Args:
        given: `{truth: {decision: cost}}` for binary and multiclass; for binary also, and for
            multilabel, `{false_positive: cost, false_negative: cost}`; for multilabel also
            `{label: {false_positive: cost, false_negative: cost}}`, which overrides the former.
        kind: not regression.
        labels: the classes, in a binary competition the positive one last; or the labels.
        source: the file, for messages.

    Returns:
        (classes, classes) by truth and decision, or (labels, 2): false positive, false negative.

    Raises:
        InputError: a name is no label, a mistake costs less than the right decision, or no mistake
            costs more.
    """
    kind = Kind(kind)
    fill = _labels if kind.several_labels_per_row else _classes
    table = fill(given, kind, labels, source)
    return tuple(map(tuple, table.tolist()))


def _labels(given: Given, kind: Kind, labels: Sequence[str], source: str) -> np.ndarray:
    table = np.ones((len(labels), len(ERRORS)))
    for name, cost in given.items():
        if not isinstance(cost, Mapping):
            table[:, _place(name, ERRORS, source, "neither false_positive nor false_negative")] = (
                cost
            )
    for name, own in given.items():
        if isinstance(own, Mapping):
            label = _place(name, labels, source, "none of the labels")
            for error, cost in own.items():
                wanted = "neither false_positive nor false_negative"
                table[label, _place(error, ERRORS, source, wanted)] = cost
    if not table.any():
        raise InputError(f"{source}: all `costs` are 0: give a mistake a cost")
    return table


def _classes(given: Given, kind: Kind, labels: Sequence[str], source: str) -> np.ndarray:
    table = 1.0 - np.eye(len(labels))
    for truth, row in given.items():
        if isinstance(row, Mapping):
            place = _place(truth, labels, source, "none of the labels")
            for decision, cost in row.items():
                table[place, _place(decision, labels, source, "none of the labels")] = cost
        elif kind.has_positive_class and truth in ERRORS:
            table[(0, 1) if truth == "false_positive" else (1, 0)] = row
        else:
            raise InputError(
                f"{source}: `costs` give '{truth}' the number {row:g}: write what each decision "
                f"costs where it is the truth, `{truth}: {{DECISION: {row:g}}}`"
            )
    _check_order(table, labels, source)
    return table


def _check_order(table: np.ndarray, labels: Sequence[str], source: str) -> None:
    """Check Elkan's condition: no right decision costs more than a mistake for the same truth."""
    right = table.diagonal()[:, None]
    cheaper = np.argwhere(table < right)
    if len(cheaper):
        truth, decision = cheaper[0]
        raise InputError(
            f"{source}: `costs`: where the truth is '{labels[truth]}', '{labels[decision]}' costs "
            f"{table[truth, decision]:g}, less than the right decision, which costs "
            f"{table[truth, truth]:g}: raise the former or lower the latter"
        )
    if (table == right).all():
        raise InputError(
            f"{source}: by `costs` no mistake costs more than the right decision: raise one"
        )


def _place(name: str, names: Sequence[str], source: str, wanted: str) -> int:
    if name not in names:
        raise InputError(
            f"{source}: `costs` name '{cut(name)}', which is {wanted}: {nearest(name, names)}"
        )
    return list(names).index(name)


def row_costs(kind: Kind, costs: Costs, targets: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """Return the cost of each row's decision, for multilabel the mean over its labels.

    Args:
        kind: not regression.
        costs: as `cost_table` returns them.
        targets, decisions: (n, outputs) of 0/1, one-hot for multiclass.

    Returns:
        (n,) costs.
    """
    table = np.array(costs)
    if kind.several_labels_per_row:
        false_positive, false_negative = table.T
        wrong = (1 - targets) * decisions * false_positive + targets * (
            1 - decisions
        ) * false_negative
        return wrong.mean(axis=1)
    if kind.has_positive_class:
        return table[targets[:, 0].astype(int), decisions[:, 0].astype(int)]
    return table[targets.argmax(axis=1), decisions.argmax(axis=1)]
