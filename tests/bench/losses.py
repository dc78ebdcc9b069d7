"""What the losses that aim at a metric are worth beside cross-entropy and the squared error.

    python tests/bench/losses.py [--out scratch/losses.jsonl] [--minutes 30]

One fit with one thread per cell: data set, rows, batch size, loss, seed; scored on its test rows. It
appends a line to OUT for each, resumes where it stopped, and prints the paired differences of all cells
that are there. After MINUTES no further cell is begun.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from corpora import corpora
from defaults import FIVE, found, over_plain, settings_of

from foldstack.learners import LearnerContext, make_learner
from foldstack.metrics import get
from foldstack.progress import say

OUT = Path("scratch/losses.jsonl")
SEEDS = (0, 1)
RANKED = (
    "movie-reviews", "custrev", "mpqa", "tweeteval-irony", "tweeteval-offensive",
    "recommended-comments",
)  # fmt: skip
LOSSES: dict[str, dict | None] = {
    "cross_entropy": None,
    "pairwise_auc": {"name": "pairwise_auc", "share": 0.5},
    "pairwise_auc alone": {"name": "pairwise_auc", "share": 1.0},
    "mse": None,
    "correlation": {"name": "correlation", "share": 0.5},
    "correlation alone": {"name": "correlation", "share": 1.0},
    "ghm": {"name": "ghm"},
}


@dataclass(frozen=True)
class Cell:
    """One fit."""

    corpus: str
    metric: str
    rows: int
    batch: int
    loss: str
    seed: int


@dataclass(frozen=True)
class Question:
    """A loss that is compared with the default by one metric; `losses` is the default and the loss."""

    metric: str
    losses: tuple[str, str]
    sets: tuple[str, ...]
    rows: int = 500
    batch: int = 16

    def pairs(self, seed: int) -> list[list[Cell]]:
        """Return the cells of the default and of the loss for each data set."""
        return [
            [Cell(name, self.metric, self.rows, self.batch, loss, seed) for loss in self.losses]
            for name in self.sets
        ]


RELATED = ("sick-relatedness",)
# The order in which they are measured.
QUESTIONS = (
    Question("roc_auc", ("cross_entropy", "pairwise_auc"), RANKED),
    Question("spearman", ("mse", "correlation"), RELATED),
    Question("f1_macro", ("cross_entropy", "ghm"), ("tweeteval-emotion",)),
    Question("roc_auc", ("cross_entropy", "pairwise_auc alone"), RANKED),
    Question("spearman", ("mse", "correlation"), RELATED, rows=1_000),
    Question("roc_auc", ("cross_entropy", "pairwise_auc"), RANKED, batch=32),
    Question("spearman", ("mse", "correlation alone"), RELATED),
)


def cells() -> list[Cell]:
    """Return all cells, in the order of the questions."""
    pairs = [pair for question in QUESTIONS for seed in SEEDS for pair in question.pairs(seed)]
    return list(dict.fromkeys(cell for pair in pairs for cell in pair))


def fit(cell: Cell) -> dict:
    """Return the cell with its score and seconds."""
    corpus = corpora()[cell.corpus]()
    changes = over_plain(**FIVE, batch_size=cell.batch)
    if loss := LOSSES[cell.loss]:
        changes["training"]["loss"] = loss
    begin = time.monotonic()
    learner = make_learner(
        settings_of(corpus, changes), LearnerContext(corpus.task, cell.seed, threads=1)
    )
    with tempfile.TemporaryDirectory() as folder:
        learner.fit(corpus.first(cell.rows), None, Path(folder))
    seconds = time.monotonic() - begin
    task = replace(corpus.task, metric=get(cell.metric, corpus.task.kind))
    score = task.score(corpus.test.targets, learner.predict(corpus.test))
    return asdict(cell) | {"score": score, "seconds": round(seconds, 1)}


def measure(out: Path, minutes: float) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * minutes
    done = {Cell(*(made[k] for k in Cell.__dataclass_fields__)) for made in found(out)}
    todo = [cell for cell in cells() if cell not in done]
    with out.open("a", encoding="utf-8") as file:
        for cell in todo:
            if time.monotonic() > end:
                return
            made = fit(cell)
            file.write(json.dumps(made) + "\n")
            file.flush()
            say(f"{made}")


def table(made: list[dict]) -> list[str]:
    """Return a line per loss and data set: scores, and the difference from the default's; and means."""
    scores = {Cell(*(m[k] for k in Cell.__dataclass_fields__)): m["score"] for m in made}
    lines = []
    for question in QUESTIONS:
        by_set: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for default, other in (pair for seed in SEEDS for pair in question.pairs(seed)):
            if default in scores and other in scores:
                by_set[default.corpus].append((scores[default], scores[other]))
        lines += _lines(question, by_set)
    return lines


def _lines(question: Question, by_set: dict[str, list[tuple[float, float]]]) -> list[str]:
    loss, rows, batch = question.losses[1], f"{question.rows:,}", question.batch
    lines, means = [], []
    for name, pairs in by_set.items():
        before, after = np.mean(pairs, axis=0)
        means.append(after - before)
        each = " ".join(f"{b - a:+.4f}" for a, b in pairs)
        lines.append(f"  {name:<21} {before:.4f} {after:.4f}  {after - before:+.4f}  ({each})")
    if len(means) > 1:
        error = np.std(means, ddof=1) / np.sqrt(len(means))
        lines.append(f"  {'mean':<21} {'':13}  {np.mean(means):+.4f} ± {error:.4f}")
    return [f"{loss}, {question.metric}, {rows} rows, batch {batch}", *lines] if lines else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--minutes", type=float, default=30)
    args = parser.parse_args()
    measure(args.out, args.minutes)
    print("\n".join(table(found(args.out))))


if __name__ == "__main__":
    main()
