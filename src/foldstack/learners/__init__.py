"""Learners: one protocol, so that every stage treats a linear model and a transformer alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

import numpy as np

from foldstack.ensemble.decide import default_rule
from foldstack.files import size_of
from foldstack.kinds import Kind
from foldstack.links import to_probabilities
from foldstack.metrics import Metric
from foldstack.rows import Rows
from foldstack.techniques import LearnerSettings
from foldstack.tracking import Log

if TYPE_CHECKING:
    from foldstack.text.cache import TokenCache
    from foldstack.text.vector_cache import TextNetwork


@dataclass(frozen=True)
class Task:
    """The competition as a learner sees it: kind, link, names of outputs, metric.

    categories: for each categorical column (the last columns of `Rows.features`), the names of its
    codes. templates: what the user wrote around the texts of the files. labels: names of the classes or
    labels, of a binary competition both.
    """

    kind: Kind
    link: str
    outputs: tuple[str, ...]
    metric: Metric
    categories: tuple[tuple[str, ...], ...] = ()
    templates: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def of(self, rows: Rows) -> Task:
        """Return the task with the metric of these training rows, whose columns it may read."""
        return replace(self, metric=self.metric.of_ids(rows.ids))

    def score(self, targets: np.ndarray, logits: np.ndarray) -> float:
        """Return the metric of (n, outputs) logits."""
        return self.score_probabilities(targets, to_probabilities(logits, self.link))

    def score_probabilities(
        self, targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
    ) -> float:
        """Return the metric of (n, outputs) probabilities; if it requires labels, by the default rule.

        Decisions of 0 and 1, by whatever rule, pass through unchanged.
        """
        if self.metric.wants == "labels":
            rule = default_rule(self.kind, len(self.outputs), self.metric.levels)
            probabilities = rule.apply(probabilities)
        return self.metric.score(targets, probabilities, weights)


class Learner(Protocol):
    """A model of one kind, constructed as `(settings, LearnerContext)` for every run.

    link: from logits to probabilities; the same as the task's.
    """

    settings: LearnerSettings
    link: str

    def fit(self, train: Rows, select: Rows | None, run_dir: Path) -> dict:
        """Learn from `train`; `select`, if given, chooses among epochs and is used for nothing else.

        run_dir holds what is needed to resume after a kill. Returns facts for run.json, under names
        that no field of `RunRecord` has.
        """

    def predict(self, rows: Rows) -> np.ndarray:
        """Return (n, outputs) float32 logits (values for regression), in the order of the rows."""

    def save(self, folder: Path) -> None:
        """Write the fitted model into an empty folder, without pickle."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""


class GivesVectors(Protocol):
    """A learner whose settings have `text_vectors`."""

    def text_network(self, fitted: str | None) -> TextNetwork:
        """Return the network that gives a text its vector, for search.

        fitted: digest of the fitted model that was loaded; None if the vectors depend on none.
        """


@dataclass(frozen=True)
class Attended:
    """Attention weights of one token sequence.

    tokens: t tokens, special ones included. weights: (k, t), each row sums to 1; k is 1, or one per
    output of the head. sentences: (t,) number of each token's sentence, from 1; None if the head
    reads none.
    """

    tokens: list[str]
    weights: np.ndarray
    sentences: np.ndarray | None


@dataclass(frozen=True)
class LearnerContext:
    """Everything a learner is given besides its settings.

    threads: number of CPU threads. start: folder of the fitted model whose weights are the initial
    ones. cache: returns the cache of tokenised texts, which is read and extended. pretrained:
    folder of a backbone that replaces the one in the settings. log: of loss, rate and scores.
    files: paths of the settings' `input_files`, by setting. texts: returns all different texts of the
    workspace, without labels. unlabelled: rows for consistency training.
    """

    task: Task
    seed: int = 0
    threads: int = 1
    start: Path | None = None
    cache: Callable[[], TokenCache] | None = None
    pretrained: Path | None = None
    log: Log | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    texts: Callable[[], list[tuple[str, ...]]] | None = None
    unlabelled: Rows | None = None

    def of_fit(self, number: int) -> LearnerContext:
        """Return the context of a run's fit of this number (from 1): it starts from its like.

        A start of several fits has no other folder than theirs; further fits start from the first.
        """
        places = [self.start / f"repeat{n}" for n in (number, 1)] if self.start else []
        start = next((place for place in places if place.exists()), self.start)
        return replace(self, start=start)


@dataclass(frozen=True)
class Measured:
    """The times of a learner's first steps, from which a run is forecast.

    A learner that can be forecast has `measure(rows, learned, sized=False) -> Measured`: it takes a few
    steps on these rows and forecasts a fit on the number `learned` of rows like them; it is then
    discarded.

    Attributes:
        seconds: that the measured steps took.
        fit_seconds: forecast of the fit.
        learned_per_second: training rows a second, each counted in every epoch.
        row_seconds: seconds per predicted row.
        work: what the fit consists of, in a few words.
        once_row_seconds: seconds per row of the competition that are spent once for all runs.
    mb: megabytes (10^6 bytes) of a stored model fitted on these rows; None unless `sized`.
    """

    seconds: float
    fit_seconds: float
    learned_per_second: float
    row_seconds: float
    work: str = ""
    once_row_seconds: float = 0.0
    mb: float | None = None


def stored_mb(learner: Learner) -> float:
    """Return the megabytes (10^6 bytes) that a fitted model takes when it is saved."""
    with TemporaryDirectory() as folder:
        place = Path(folder, "model")
        place.mkdir()
        learner.save(place)
        return size_of(place) / 1e6


def make_learner(settings: LearnerSettings, context: LearnerContext) -> Learner:
    """Return the learner that a preset names; its module is imported when it is first used."""
    implementation = settings.load()
    if settings.repeated == 1:
        return implementation(settings, context.of_fit(1))
    from foldstack.learners.repeated import RepeatedLearner

    return RepeatedLearner(settings, context, implementation)
