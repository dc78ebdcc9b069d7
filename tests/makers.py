"""Rows, tasks, learners and members in memory; workspaces on disk are made by tiny.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy.special import expit, softmax
from scipy.stats import rankdata

from foldstack.ensemble import Members
from foldstack.kinds import Kind
from foldstack.learners import LearnerContext, Task
from foldstack.metrics import get
from foldstack.rows import Rows
from tiny import sentences

if TYPE_CHECKING:
    from foldstack.learners.transformer import TransformerLearner

OUTPUTS = {"binary": 1, "multiclass": 3, "multilabel": 3, "regression": 2}
METRICS = {
    "binary": "roc_auc",
    "multiclass": "accuracy",
    "multilabel": "f1_micro",
    "regression": "rmse",
}


def unlabelled(texts: Sequence[str | tuple[str, ...]], **columns: ArrayLike) -> Rows:
    """Return gold rows r0, r1, … of these texts, each of weight 1 and of a group of its own.

    Args:
        texts: (n,) texts, or tuples of one or two.
        columns: fields of Rows to take instead.
    """
    n = len(texts)
    fields = {
        "ids": np.array([f"r{i}" for i in range(n)], dtype=object),
        "targets": None,
        "weights": np.ones(n),
        "groups": np.arange(n),
        "origin": np.full(n, "gold", dtype=object),
    }
    given = {name: np.asarray(values) for name, values in columns.items()}
    return Rows(texts=[(t,) if isinstance(t, str) else t for t in texts], **fields | given)


def make_rows(
    texts: Sequence[str | tuple[str, ...]],
    targets: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    **columns: ArrayLike,
) -> Rows:
    """Return the rows of `unlabelled` with targets.

    Args:
        texts: (n,) texts, or tuples of one or two.
        targets: (n,) or (n, outputs); by default 0, 1, 0, …
        weights: (n,), by default 1.
        columns: further fields of Rows.
    """
    n = len(texts)
    targets = np.arange(n) % 2 if targets is None else np.asarray(targets)
    targets = targets[:, None] if targets.ndim == 1 else targets
    weights = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    return unlabelled(texts, targets=targets.astype(float), weights=weights, **columns)


def tiny_rows(kind: str = "binary", n: int = 32) -> Rows:
    """Return n sentences of unequal length and unequal weight.

    The favourable ones have label 1, class 2, labels 1 and 2, or high targets.
    """
    texts, labels = zip(*sentences(n), strict=True)
    good = np.array(labels)
    targets = {
        "binary": good,
        "multiclass": np.eye(3)[np.where(good, 2, np.arange(n) % 4 // 2)],
        "multilabel": np.stack([good, good, 1 - good], axis=1),
        "regression": np.stack([100 * good + np.arange(n), -good], axis=1),
    }[kind]
    return make_rows(texts, targets, weights=1 + np.arange(n) % 3 / 2)


def make_task(kind: str = "binary", outputs: int | None = None) -> Task:
    """Return a task of the kind, with outputs y0, y1, … and a metric that scores it."""
    names = tuple(f"y{i}" for i in range(outputs or OUTPUTS[kind]))
    labels = ("other", *names) if Kind(kind).has_positive_class else names
    metric = get(METRICS[kind], kind)
    return Task(Kind(kind), Kind(kind).link, names, metric, labels=labels)


def make_learner(
    backbone: Path | str,
    kind: str = "binary",
    seed: int = 0,
    *,
    training: dict | None = None,
    **settings: object,
) -> TransformerLearner:
    """Return a transformer in fp32 on one thread: two epochs of batches of 8 by default."""
    from foldstack.learners.transformer import TransformerLearner
    from foldstack.techniques import TransformerSettings

    defaults = {"epochs": 2, "batch_size": 8, "lr": 2e-3, "precision": "fp32", "max_length": 16}
    checked = TransformerSettings(
        learner="transformer",
        backbone=str(backbone),
        training=defaults | (training or {}),
        **settings,
    )
    checked.check_kind(Kind(kind))
    return TransformerLearner(checked, LearnerContext(make_task(kind), seed))


def fit_and_predict(
    backbone: Path, folder: Path, kind: str = "binary", **settings: object
) -> np.ndarray:
    """Return what a learner of these settings predicts for the tiny rows that it has learned."""
    folder.mkdir()
    learner, rows = make_learner(backbone, kind, **settings), tiny_rows(kind)
    learner.fit(rows, None, folder)
    return learner.predict(rows)


@contextmanager
def interrupted_after(updates: int) -> Iterator[None]:
    """Interrupt training inside the context after this number of updates."""
    from foldstack.training import loop

    taken, update = [], loop.update

    def stopping(*args: object, **more: object) -> object:
        if len(taken) == updates:
            raise KeyboardInterrupt
        taken.append(1)
        return update(*args, **more)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "update", stopping)
        yield


def loop_learner(
    backbone: Path,
    seed: int = 0,
    *,
    dropout: float = 0.0,
    backbone_dropout: float | None = None,
    prefix: str = "",
    **training: object,
) -> TransformerLearner:
    """Return a binary learner for the loop alone: one epoch, no dropout before the head.

    training: the settings of the loop, by name.
    """
    return make_learner(
        backbone,
        seed=seed,
        dropout=dropout,
        backbone_dropout=backbone_dropout,
        prefix=prefix,
        training={"epochs": 1, "lr": 1e-3} | training,
    )


def draw_targets(
    rng: np.random.Generator, kind: str, shape: tuple[int, int], location: float, scale: float
) -> np.ndarray:
    """Return (n, outputs) targets: one class per row, normal values, or 40 % of positives."""
    if kind == "multiclass":
        return np.eye(shape[1])[rng.integers(shape[1], size=shape[0])]
    if kind == "regression":
        return rng.normal(location, scale, size=shape)
    return (rng.random(shape) < 0.4).astype(float)


def make_members(
    skill: ArrayLike,
    kind: str = "binary",
    outputs: int = 1,
    n: int = 200,
    folds: int = 4,
    seed: int = 0,
    *,
    location: float = 0.0,
    scale: float = 1.0,
    features: np.ndarray | None = None,
) -> Members:
    """Return the predictions of models on n rows, ten of which are the test rows too.

    Args:
        skill: a number per model, or a row of numbers per model, one per output; 0 is noise.
        location, scale: mean and deviation of a regression's targets, which its predictions are
            centred and scaled by.
        features: (n, f) feature columns.
    """
    rng = np.random.default_rng(seed)
    targets = draw_targets(rng, kind, (n, outputs), location, scale)
    centred = (targets - location) / scale if kind == "regression" else 2 * targets - 1
    models = len(skill)
    signal = centred[:, None, :] * np.broadcast_to(
        np.reshape(skill, (models, -1)), (models, outputs)
    )
    values = signal + rng.normal(size=(n, models, outputs))
    if kind != "regression":
        values = softmax(values, axis=2) if kind == "multiclass" else expit(values)
    fold = np.arange(n) % folds
    ranks = np.empty_like(values)
    for k in range(folds):
        ranks[fold == k] = rankdata(values[fold == k], axis=0) / (fold == k).sum()
    return Members(
        names=[f"model{k}" for k in range(models)],
        probabilities=values,
        ranks=ranks,
        test_probabilities=values[:10],
        test_ranks=ranks[:10],
        targets=targets,
        folds=fold,
        groups=np.arange(n),
        kind=kind,
        features=features,
        test_features=None if features is None else features[:10],
    )


def everything(members: Members) -> np.ndarray:
    return np.arange(len(members.targets))


def repeated(members: Members, times: int) -> Members:
    """Return members whose rows stand there several times, the copies of a row in one group."""
    rows = np.tile(np.arange(len(members.targets)), times)
    names = ("probabilities", "ranks", "targets", "folds", "groups")
    return replace(members, **{name: getattr(members, name)[rows] for name in names})
