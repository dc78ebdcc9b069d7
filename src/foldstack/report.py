"""Reports of a prediction: one line per label as in scikit-learn, or one per regression target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report

from foldstack import metrics
from foldstack.kinds import Kind
from foldstack.progress import table
from foldstack.records import AuditLine

SCORES = {"precision": "precision", "recall": "recall", "f1-score": "f1", "support": "support"}
TARGET_SCORES = ("rmse", "mae", "r2", "pearson", "spearman")
OF_PATTERNS = (
    *("", "rows", "share", "precision", "the model's", "decides", "wrong → right", "right → wrong"),
    *("better by [95 % interval]", "test rows"),
)


def label_report(
    targets: np.ndarray, decisions: np.ndarray, names: Sequence[str], kind: Kind
) -> pd.DataFrame:
    """Return precision, recall, F1 and support of each label, then the averages; zero_division=0.

    These are the lines of scikit-learn's classification_report.

    Args:
        targets, decisions: (n, outputs) of 0/1.
        names: of the labels: both classes for binary (the positive one last), every class for
            multiclass, every label for multilabel.
        kind: 'binary', 'multiclass' or 'multilabel'. Rows with one label each may be of either of the
            latter two, whose averages differ.

    Returns:
        Columns precision, recall, f1, support; index `label`: the names, then for binary and
        multiclass `accuracy` (in column f1, otherwise nan), for multilabel `micro avg`, for all
        `macro avg` and `weighted avg`, and for several labels `samples avg`. Labels in neither targets
        nor decisions have a line of zeros, and take part in `macro avg`.
    """
    given, decided, labels = _plain(targets, decisions, len(names), Kind(kind))
    # Under numbers, since a label may be named like an average, or like another label.
    scores = classification_report(
        given,
        decided,
        labels=labels,
        target_names=[str(k) for k in range(len(names))],
        output_dict=True,
        zero_division=0,
    )
    if "accuracy" in scores:
        scores["accuracy"] = {"f1-score": scores["accuracy"], "support": len(targets)}
    frame = pd.DataFrame.from_dict(scores, orient="index", columns=list(SCORES))
    frame.index = pd.Index([*names, *frame.index[len(names) :]], name="label")
    return frame.rename(columns=SCORES).astype({"support": int})


def _plain(targets: np.ndarray, decisions: np.ndarray, names: int, kind: Kind) -> tuple:
    """Return targets, decisions and the names' labels in scikit-learn's form."""
    if kind.is_one_hot:
        return targets.argmax(axis=1), decisions.argmax(axis=1), np.arange(names)
    given, decided = targets.astype(int), decisions.astype(int)
    if kind.has_positive_class:
        return given[:, 0], decided[:, 0], np.arange(2)
    if names == 1:  # A binary target for scikit-learn, of which only the label is reported.
        return given[:, 0], decided[:, 0], np.array([1])
    return given, decided, np.arange(names)


def target_report(
    targets: np.ndarray, predictions: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """Return the errors and correlations of each regression target, and their means.

    Args:
        targets, predictions: (n, outputs).
        names: of the targets.

    Returns:
        Columns rmse, mae, r2, pearson, spearman; index `target`: the names, then `mean`. Undefined
        values (r2 and correlations of a constant target) are nan, and excluded from the mean.
    """
    columns = [slice(k, k + 1) for k in range(len(names))]
    scores = [(metrics.get(name, Kind.REGRESSION).score, name) for name in TARGET_SCORES]
    lines = {
        name: [score(targets[:, part], predictions[:, part]) for part in (*columns, slice(None))]
        for score, name in scores
    }
    return pd.DataFrame(lines, index=pd.Index([*names, "mean"], name="target"))


def read_report(path: Path) -> pd.DataFrame:
    """Return a report that `to_csv` wrote; a label such as NA is text, an empty score is nan."""
    name, *scores = pd.read_csv(path, nrows=0).columns
    empty = {score: [""] for score in scores}
    frame = pd.read_csv(path, dtype={name: str}, keep_default_na=False, na_values=empty)
    return frame.set_index(name)


def report_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one mapping per line of a report, its label or target first."""
    return frame.reset_index().to_dict("records")


def format_report(frame: pd.DataFrame) -> str:
    """Return a report as aligned text, with four decimals; undefined values are blank."""
    header = [str(frame.index.name), *frame.columns]
    lines = zip(map(str, frame.index), *(_texts(frame[name]) for name in frame), strict=True)
    return table(header, [list(line) for line in lines])


def _texts(column: pd.Series) -> list[str]:
    if column.dtype.kind == "i":
        return [f"{value:,}" for value in column]
    return ["" if np.isnan(value) else f"{value:.4f}" for value in column]


def format_audit(lines: Sequence[AuditLine]) -> str:
    """Return the audit of patterns as aligned text, one line per rule."""
    return table(list(OF_PATTERNS), [_audit_cells(line) for line in lines])


def _audit_cells(line: AuditLine) -> list[str]:
    precision, of_model = (
        "" if p is None else f"{p:.4f}" for p in (line.precision, line.model_precision)
    )
    better, effect = line.better_by, ""
    if better is not None:
        effect = f"{better.difference:+.4f} [{better.low:+.4f}, {better.high:+.4f}]"
    did = [f"{n:,}" for n in (line.acts, line.wrong_to_right, line.right_to_wrong)]
    if line.cached:
        precision, did = precision and f"{precision}*", [""] * 3
    return [
        line.name,
        f"{line.rows:,}",
        f"{line.share:.1%}",
        precision,
        of_model,
        *did,
        effect,
        f"{line.test_rows:,}",
    ]
