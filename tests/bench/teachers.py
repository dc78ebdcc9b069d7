"""What students gain by teachers: pseudo-labels of unlabelled rows, and distillation.

    python tests/bench/teachers.py [--sets movie-reviews,bbc] [--rows 800] [--pool 4000]
        [--teacher minilm] [--students tfidf,textcnn,minilm] [--seeds 2]

The first `--rows` rows of a data set are labelled, and the texts of those after them are the pool.
Each student is fitted in several ways, each seed with a teacher of the same seed, and all are scored
on the same test rows:

- alone: the labelled rows;
- pseudo: and the pool with the teacher's probabilities, as `pseudo_labels: {texts: [pool]}`;
- sure: and those rows of the pool of which the teacher is 90 % sure, with hard labels;
- distilled: the labelled rows, whose targets are half what teachers predict that have not learned
  them (five folds), as `distil:`;
- both: pseudo and distilled;
- mixed (networks only): as pseudo, with `ratio: 1`;
- consistent (networks only): alone, with `consistency:` on the pool.

`gain` is over `alone`, paired by test rows and by seeds, with its 95 % interval. Finished fits are
read from `--out`. One thread; seconds are of CPU.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from corpora import Corpus, corpora
from networks import fitted, learner_of, megabytes

from foldstack.ensemble import paired_difference
from foldstack.learners import Learner
from foldstack.links import to_probabilities
from foldstack.progress import say, table
from foldstack.rows import Rows
from foldstack.stages.taught import labelled
from foldstack.techniques import PseudoLabels

FOLDS, SHARE, SURE = 5, 0.5, 0.9
WAYS = ("alone", "pseudo", "sure", "distilled", "both")
CHANGES = {"name": "tfidf_words", "share": 0.3}


class Bench:
    """The fits of one data set, which are read again from a folder."""

    def __init__(self, corpus: Corpus, rows: int, pool: int, teacher: str, out: Path):
        self.corpus, self.teacher, self.out = corpus, teacher, out / corpus.name
        self.gold = corpus.first(rows)
        after = np.arange(rows, min(rows + pool, len(corpus.train)))
        self.pool = replace(corpus.train.take(after), targets=None)
        self.out.mkdir(parents=True, exist_ok=True)
        self.key = f"{rows}-{len(self.pool)}-{teacher}"

    def predictions(self, student: str, way: str, seed: int) -> tuple[np.ndarray, dict]:
        """Return the (n, outputs) test probabilities of a student, and facts of its fit."""
        place = self.out / f"{self.key}-{student}-{way}-{seed}.npz"
        if not place.exists():
            train = self.rows(way, seed)
            say(f"{self.corpus.name}: {student} {way}, seed {seed}, {len(train):,} rows")
            learner = learner_of(student, self.corpus, seed, **self.settings(way))
            if way == "consistent":
                learner.unlabelled = self.pool
            seconds = fitted(learner, train)
            facts = {"seconds": seconds, "mb": megabytes(learner)}
            p = to_probabilities(learner.predict(self.corpus.test), learner.link)
            np.savez(place, p=p, facts=json.dumps(facts))
        found = np.load(place)
        return found["p"], json.loads(str(found["facts"]))

    def settings(self, way: str) -> dict:
        """Return the student's settings beside its preset."""
        if way == "mixed":
            return {"pseudo_labels": {"teachers": [self.teacher], "texts": ["pool"], "ratio": 1}}
        if way == "consistent":
            return {"consistency": {"texts": ["pool"], "augment": [CHANGES]}}
        return {}

    def rows(self, way: str, seed: int) -> Rows:
        """Return the rows that a student learns from."""
        gold = self.gold
        if way in ("distilled", "both"):
            taught = self.of_gold(seed)
            gold = replace(gold, targets=(1 - SHARE) * gold.targets + SHARE * taught)
        if way in ("alone", "distilled", "consistent"):
            return gold
        settings = PseudoLabels(teachers=[self.teacher])
        if way == "sure":
            settings = PseudoLabels(teachers=[self.teacher], labels="hard", confidence=SURE)
        each = {self.teacher: self.of_pool(seed)}
        return gold.concatenated(
            labelled(self.pool, each, settings, self.corpus.task.kind.is_one_hot)
        )

    def of_pool(self, seed: int) -> np.ndarray:
        """Return the teacher's probabilities of the pool."""
        return self._kept("pool", seed, lambda: self._taught(self.gold, self.pool, seed))

    def of_gold(self, seed: int) -> np.ndarray:
        """Return the probabilities of labelled rows by teachers that have not learned them."""
        fold = np.random.default_rng(seed).permutation(len(self.gold)) % FOLDS

        def out_of_fold() -> np.ndarray:
            found = np.zeros_like(self.gold.targets)
            for k in range(FOLDS):
                known, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
                found[held] = self._taught(self.gold.take(known), self.gold.take(held), seed)
            return found

        return self._kept("gold", seed, out_of_fold)

    def _taught(self, known: Rows, rows: Rows, seed: int) -> np.ndarray:
        learner: Learner = learner_of(self.teacher, self.corpus, seed)
        fitted(learner, known)
        return to_probabilities(learner.predict(rows), learner.link)

    def _kept(self, name: str, seed: int, make) -> np.ndarray:
        place = self.out / f"{self.key}-{name}-{seed}.npy"
        if not place.exists():
            say(f"{self.corpus.name}: {self.teacher} teaches {name}, seed {seed}")
            np.save(place, make())
        return np.load(place)


def lines(bench: Bench, students: list[str], ways: list[str], seeds: int) -> list[list[str]]:
    """Return a line of the table per student and way."""
    task, test, found = bench.corpus.task, bench.corpus.test, []
    for student in students:
        alone: list[np.ndarray] = []
        for way in ways:
            made = [bench.predictions(student, way, seed) for seed in range(seeds)]
            each = [p for p, _ in made]
            metric = replace(task.metric, scorer=task.score_probabilities, reads=())
            score = np.mean([metric.score(test.targets, p) for p in each])
            alone = alone or each
            gain = ""
            if way != "alone":
                d = paired_difference(metric, test.targets, each, alone, test.groups, 0)
                gain = f"{d.difference:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
            seconds, mb = (np.mean([f[key] for _, f in made]) for key in ("seconds", "mb"))
            found.append(
                [
                    bench.corpus.name,
                    student,
                    way,
                    f"{score:.4f}",
                    gain,
                    f"{seconds:.0f}",
                    f"{mb:.1f}",
                ]
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default="movie-reviews,bbc,tweeteval-irony,tweeteval-emotion")
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--pool", type=int, default=4_000)
    parser.add_argument("--teacher", default="minilm")
    parser.add_argument("--students", default="tfidf,fasttext,textcnn,minilm")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/found/teachers"))
    args = parser.parse_args()
    body = []
    for name in args.sets.split(","):
        bench = Bench(corpora()[name](), args.rows, args.pool, args.teacher, args.out)
        body += lines(bench, args.students.split(","), args.ways.split(","), args.seeds)
    head = ["data set", "student", "way", "test score", "gain [95 %]", "CPU s", "MB"]
    print(table(head, body))


if __name__ == "__main__":
    main()
