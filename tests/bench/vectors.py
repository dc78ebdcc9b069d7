"""Classical models on frozen vectors beside the linear model on n-grams, on the data sets of corpora.py.

    python tests/bench/vectors.py [--sets a,b] [--models a,b] [--rows 2000]

Fits each with one thread on the first rows of a data set and scores it on the data set's test rows by
the default decision rule. Seconds are those of the CPU for a fit and the test rows' predictions; the
vectors of all rows, which runs share, are computed before and timed apart.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from corpora import Corpus, corpora

from foldstack.config import SHIPPED, read_preset, validate
from foldstack.learners import LearnerContext, make_learner
from foldstack.links import row_losses
from foldstack.metrics import get
from foldstack.progress import say_aside, table
from foldstack.rows import Rows
from foldstack.techniques import LearnerSettings
from foldstack.text.cache import TokenCache

SETS = ("tweeteval-irony", "tweeteval-emotion", "custrev")
VECTORS = read_preset(SHIPPED / "minilm-vectors.yaml", Path("."))
MODELS = {"tfidf": read_preset(SHIPPED / "tfidf.yaml", Path("."))} | {
    name: VECTORS | {"classifier": name}
    for name in ("logistic", "ridge", "svm", "neighbours", "lightgbm")
}
MODELS |= {name: {"learner": "vectors", "source": name} for name in ("tfidf_svd", "nmf", "lda")}
TRAINED = {"name": "word_mean", "vectors": {"train": "skipgram"}}  # requires gensim
MODELS |= {
    "word_mean": {"learner": "vectors", "source": TRAINED},
    "svm_words": {"learner": "vectors", "source": "svm_words", "normalise": False},
}


def measured(corpus: Corpus, train: Rows, name: str, cache: TokenCache) -> list[str]:
    """Return the name, score, mean loss of a row and seconds of a model."""
    data = MODELS[name]
    settings = validate(LearnerSettings.registered[data["learner"]], data, name)
    begin = time.process_time()
    learner = make_learner(settings, LearnerContext(corpus.task, 0, 1, cache=lambda: cache))
    learner.fit(train, None, Path("."))
    logits = learner.predict(corpus.test)
    seconds = time.process_time() - begin
    loss = row_losses(logits, corpus.test.targets, learner.link).mean()
    score = corpus.task.score(corpus.test.targets, logits)
    accuracy = replace(corpus.task, metric=get("accuracy", corpus.task.kind))
    other = accuracy.score(corpus.test.targets, logits)
    return [name, f"{score:.3f}", f"{other:.3f}", f"{loss:.3f}", f"{seconds:.1f}"]


def compare(corpus: Corpus, rows: int, models: list[str]) -> None:
    train, n = corpus.first(rows), len(corpus.test)
    with tempfile.TemporaryDirectory() as folder:
        cache = TokenCache(Path(folder), (train, corpus.test), Path(folder, "vectors"))
        data = VECTORS | {"classifier": "neighbours"}
        settings = validate(LearnerSettings.registered[data["learner"]], data, "vectors")
        learner = make_learner(settings, LearnerContext(corpus.task, 0, 1, cache=lambda: cache))
        begin = time.process_time()
        learner.fit(train, None, Path("."))
        seconds = time.process_time() - begin
        found = [measured(corpus, train, name, cache) for name in models]
    print(
        f"{corpus.name}: {len(train):,} rows learned, {n:,} scored, vectors of all in {seconds:.0f} s"
    )
    score = {"accuracy": "score"}.get(corpus.task.metric.name, corpus.task.metric.name)
    print(table(["model", score, "accuracy", "log loss", "CPU s"], found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rows", type=int, default=2_000)
    arguments = parser.parse_args()
    say_aside(True)
    for name in arguments.sets.split(","):
        compare(corpora()[name](), arguments.rows, arguments.models.split(","))


if __name__ == "__main__":
    sys.exit(main())
