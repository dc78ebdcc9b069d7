"""The learner for few rows: a bi-encoder tuned on pairs of them, and a model on its vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from foldstack import metrics
from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.learners import LearnerContext, Measured, Task
from foldstack.learners.biencoder import BiEncoderLearner
from foldstack.learners.vectors import VectorModel, normalised
from foldstack.rows import Rows
from foldstack.techniques import SetfitSettings
from foldstack.text.pairs import Sentenced, contrastive_pairs
from foldstack.text.vector_cache import TextNetwork

# Of pairs: whether both texts have one class. Nothing is scored.
PAIRS = Task(Kind.BINARY, Kind.BINARY.link, ("same",), metrics.get("roc_auc", Kind.BINARY))
HEAD = "head"  # folder of the fitted classifier


class SetfitLearner:
    """Contrastive pairs tune the backbone, and a classifier learns the rows by its vectors.

    A soft target counts as its most probable class in pairs, and as it is in the classifier.
    """

    def __init__(self, settings: SetfitSettings, context: LearnerContext):
        self.settings, self.task, self.seed = settings, context.task, context.seed
        self.link, self.threads = self.task.link, context.threads
        pairs = replace(PAIRS, templates=self.task.templates)
        self.body = BiEncoderLearner(settings, replace(context, task=pairs))
        made = settings.classifier.load()
        self.head: VectorModel = made(settings.classifier, self.task, self.seed, self.threads)

    @property
    def precision(self) -> str:
        return self.body.precision

    def fit(self, train: Rows, select: Rows | None, run_dir: Path) -> dict:
        facts = self.body.fit(self.pairs(train), None, run_dir)
        with threadpool_limits(self.threads):
            made = self.head.fit(self._vectors(train), train)
        auto = facts.get("auto", {}) | {name: vars(choice) for name, choice in made.items()}
        return facts | ({"auto": auto} if auto else {})

    def pairs(self, train: Rows) -> Rows:
        """Return the pairs that tune the backbone; each has the product of its rows' weights.

        Raises:
            InputError: rows have several texts, or all of them one class.
        """
        if len(train) and (segments := len(train.texts[0])) > 1:
            raise InputError(
                f"learner setfit pairs texts of different rows, but `text` in competition.yaml names "
                f"{segments}: name one, or take another learner"
            )
        rows = train.take(np.flatnonzero(train.weights > 0))
        several = rows.targets.shape[1] > 1
        classes = (
            rows.targets.argmax(axis=1) if several else (rows.targets[:, 0] >= 0.5).astype(int)
        )
        if len(np.unique(classes)) < 2:
            raise InputError(
                "learner setfit compares texts of different classes, but all training rows of this run "
                "have one class: give it rows of others, or take another learner"
            )
        first, second, same = contrastive_pairs(classes, self.settings.iterations, self.seed)
        n, texts = len(first), [rows.texts[i][0] for i in range(len(rows))]
        return Rows(
            np.arange(n).astype(str).astype(object),
            [(texts[a], texts[b]) for a, b in zip(first, second, strict=True)],
            same[:, None].astype(float),
            rows.weights[first] * rows.weights[second],
            np.arange(n),
            np.full(n, "gold", dtype=object),
        )

    def _vectors(self, rows: Rows) -> np.ndarray:
        """Return (n, h) float64 vectors of length 1; equal texts are read once."""
        body, found = self.body, Sentenced.of([(text, text) for (text,) in rows.texts])
        net = body.model.to(body.accelerator.device)
        vectors = body.vectors_of(net, body.encoder.of_sentences(found))
        return normalised(vectors[found.first]).astype(np.float64)

    def text_network(self, fitted: str | None) -> TextNetwork:
        """Return the tuned backbone; see `learners.GivesVectors`."""
        return self.body.text_network(fitted)

    def predict(self, rows: Rows) -> np.ndarray:
        x = self._vectors(rows)
        with threadpool_limits(self.threads):
            return self.head.predict(x).astype(np.float32)

    def measure(self, rows: Rows, learned: int) -> Measured:
        """Return the times of the first updates on pairs, see `Measured`."""
        of_row = 2 * self.settings.iterations
        pairs = self.pairs(rows)
        some = pairs.take(np.random.default_rng(self.seed).permutation(len(pairs))[: len(rows)])
        found = self.body.measure(some, of_row * learned)
        return replace(
            found,
            learned_per_second=found.learned_per_second / of_row,
            row_seconds=found.row_seconds / 2,
        )

    def save(self, folder: Path) -> None:
        self.body.save(folder)
        (folder / HEAD).mkdir()
        self.head.save(folder / HEAD)

    def load(self, folder: Path) -> None:
        self.body.load(folder)
        self.head.load(folder / HEAD)
