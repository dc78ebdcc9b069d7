"""Few rows per class: tuning on pairs beside nearest rows, linear models and fine-tuning.

    python tests/bench/few_shots.py [--sets tweeteval-emotion,bbc] [--rows 8,16,32] [--seeds 2]
        [--models minilm-setfit,minilm-neighbours,minilm-vectors,minilm,tfidf]

Each seed draws its own rows, the same number of each class, and all models learn these. With 0 rows
there is `minilm-zero-shot`, the cosine to the labels' texts, which learns nothing. All are scored on the
same test rows; a score is the mean over the seeds, with that of each seed behind it. `gain` is over the
first model, paired by test rows and by seeds, with its 95 % interval. Finished fits are read from
`--out`, so that a stopped call continues. One thread; seconds are of CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from corpora import SHARED, Corpus, corpora
from networks import fitted, learner_of

from foldstack.ensemble import paired_difference
from foldstack.links import to_probabilities
from foldstack.progress import say, table
from foldstack.rows import Rows

ZERO = "minilm-zero-shot"
MODELS = "minilm-setfit,minilm-neighbours,minilm-vectors,minilm,tfidf"


def label_texts(corpus: Corpus) -> dict[str, str]:
    """Return a text per label; names are their own unless the data set brings others."""
    place = SHARED / "data" / "tweeteval" / corpus.name.removeprefix("tweeteval-") / "mapping.txt"
    if not place.is_file():
        return {name: name for name in corpus.task.outputs}
    lines = place.read_text(encoding="utf-8").split("\n")
    named = dict(line.split("\t")[:2] for line in lines if "\t" in line)
    return {name: named[name] for name in corpus.task.outputs}


def draw(corpus: Corpus, rows: int, seed: int) -> Rows:
    """Return this number of training rows of each class."""
    order = np.random.default_rng(seed).permutation(len(corpus.train))
    classes = corpus.train.targets.argmax(axis=1)[order]
    each = [order[classes == k][:rows] for k in range(corpus.train.targets.shape[1])]
    return corpus.train.take(np.concatenate(each))


def fit(corpus: Corpus, model: str, rows: int, seed: int, place: Path) -> tuple[np.ndarray, dict]:
    """Return the (n, outputs) test probabilities and facts; they are read if they are there."""
    if not place.exists():
        train = draw(corpus, max(rows, 1), seed)
        say(f"{corpus.name}: {model}, {rows} rows per class, seed {seed}")
        changes = {}
        if model == ZERO:
            changes = {"classifier": {"name": "label_texts", "labels": label_texts(corpus)}}
        learner = learner_of(model, corpus, seed, **changes)
        seconds = fitted(learner, train)
        begin = time.process_time()
        p = to_probabilities(learner.predict(corpus.test), learner.link)
        facts = {"seconds": seconds, "predicting": time.process_time() - begin}
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.with_suffix(".part.npz")  # a stopped call leaves no half of a file
        np.savez(beside, p=p, facts=json.dumps(facts))
        beside.rename(place)
    found = np.load(place)
    return found["p"], json.loads(str(found["facts"]))


def lines(corpus: Corpus, rows: int, models: list[str], seeds: int, out: Path) -> list[list[str]]:
    """Return a line of the table per model."""
    task, test = corpus.task, corpus.test
    metric = replace(task.metric, scorer=task.score_probabilities, reads=())
    body: list[list[str]] = []
    first: list[np.ndarray] = []
    for model in models:
        made = [
            fit(corpus, model, rows, seed, out / corpus.name / f"{model}-{rows}-{seed}.npz")
            for seed in range(seeds)
        ]
        each = [p for p, _ in made]
        scores = [metric.score(test.targets, p) for p in each]
        gain = ""
        if first:
            d = paired_difference(metric, test.targets, each, first, test.groups, 0)
            gain = f"{d.difference:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
        first = first or each
        seconds, predicting = (np.mean([f[k] for _, f in made]) for k in ("seconds", "predicting"))
        shown = f"{np.mean(scores):.4f} ({', '.join(f'{s:.4f}' for s in scores)})"
        of_fit = [f"{seconds:.1f}", f"{predicting:.1f}"]
        body.append([corpus.name, f"{rows}", model, shown, gain, *of_fit])
    return body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default="tweeteval-emotion,bbc")
    parser.add_argument("--rows", default="8,16,32")
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/found/few_shots"))
    args = parser.parse_args()
    body = []
    for name in args.sets.split(","):
        corpus = corpora()[name]()
        body += lines(corpus, 0, [ZERO], 1, args.out)
        for rows in map(int, args.rows.split(",")):
            body += lines(corpus, rows, args.models.split(","), args.seeds, args.out)
    head = [
        "data set",
        "rows per class",
        "model",
        "test score",
        "gain [95 %]",
        "CPU s",
        "to predict",
    ]
    print(table(head, body))


if __name__ == "__main__":
    main()
