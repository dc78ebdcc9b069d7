"""Learners: one protocol, so that every stage treats a linear model and a transformer alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from foldstack.ensemble.decide import default_rule
from foldstack.links import to_probabilities
from foldstack.metrics import Metric
from foldstack.rows import Rows
from foldstack.settings import Settings

if TYPE_CHECKING:
    from foldstack.text.cache import TokenCache


@dataclass(frozen=True)
class Task:
    """What a learner must know of the competition: kind, link, names of outputs, metric.

    categories: for each categorical column, the last ones of `Rows.features`, what its codes stand for.
    """

    kind: str
    link: str
    outputs: tuple[str, ...]
    metric: Metric
    categories: tuple[tuple[str, ...], ...] = ()

    def score(self, targets: np.ndarray, raw: np.ndarray) -> float:
        """The metric of (n, outputs) raw outputs."""
        return self.score_probabilities(targets, to_probabilities(raw, self.link))

    def score_probabilities(
        self, targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
    ) -> float:
        """The metric of (n, outputs) probabilities; where it wants labels, by argmax or at .5.

        Decisions of 0 and 1, by whatever rule, pass through unchanged.
        """
        if self.metric.wants == "labels":
            probabilities = default_rule(self.kind, len(self.outputs)).apply(probabilities)
        return self.metric.score(targets, probabilities, weights)


class Learner(Protocol):
    """Code behind a kind of model; made anew for every run."""

    link: str

    def fit(self, train: Rows, select: Rows | None, run_dir: Path) -> dict:
        """Learn from `train`; `select`, where given, chooses among epochs, and nothing else does.

        run_dir holds what the learner needs to go on after a kill. Returns facts for run.json.
        """

    def predict(self, rows: Rows) -> np.ndarray:
        """(n, outputs) float32 raw outputs, in the order of the rows."""

    def save(self, folder: Path) -> None:
        """Write the fitted model, without pickle."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""


def make_learner(
    settings: Settings,
    task: Task,
    seed: int,
    threads: int,
    start: Path | None = None,
    cache: Callable[[], TokenCache] | None = None,
    pretrained: Path | None = None,
) -> Learner:
    """The learner that a preset names; imported only when it is used.

    start: the folder of a fitted model that a transformer begins from. cache: makes what it
    finds texts tokenised in, and keeps those that it tokenises. pretrained: the folder of the
    backbone that it takes instead of its settings' own.
    """
    if settings.learner == "tfidf":
        from foldstack.learners.tfidf import TfidfLearner

        return TfidfLearner(settings, task, seed)
    from foldstack.learners.transformer import TransformerLearner

    return TransformerLearner(settings, task, seed, threads, start, cache and cache(), pretrained)
