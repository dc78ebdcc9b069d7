"""What students gain by teachers: pseudo-labels of unlabelled rows, and distillation.

    python tests/bench/teachers.py [--sets movie-reviews,bbc] [--rows 800] [--pool 4000]
        [--teacher minilm] [--students tfidf,textcnn,minilm] [--seeds 2]

The first `--rows` rows of a data set are labelled, and the texts of those after them are the pool; with
`--pool test` it is the texts of the test rows.
Each student is fitted in several ways, each seed with a teacher of the same seed, and all are scored
on the same test rows:

- alone: the labelled rows;
- pseudo: and the pool with the teacher's probabilities, as `pseudo_labels: {texts: [pool]}`;
- sure: and those rows of the pool of which the teacher is 90 % sure, with hard labels;
- distilled: the labelled rows, whose targets are half what teachers predict that have not learned
  them (five folds), as `distil:`;
- both: pseudo and distilled;
- tempered (networks only): distilled at a temperature of 4;
- half, matched, joint (transformers only): every second layer of the one that is fitted alone, tuned
  again; with `match_hidden: 1`; and trained beside the whole with `joint: {}`;
- mixed (networks only): pseudo with `ratio: 1`;
- consistent (networks only): alone, with `consistency:` on the pool;
- self: pseudo, but the teacher is the student alone (self-training), and self2 its second round, whose
  teacher is the first one's student;
- noisy: self2 whose students learn rows with a tenth of their words dropped or swapped in each epoch
  (noisy student, Xie et al. 2020);
- again: what `sure` has learned is tuned on the labelled rows once more, as `start_from:` (with alone
  and sure the steps of data distillation).

Several teachers, `--teacher minilm,tfidf`, are one by the mean of their probabilities.
`gain` is over `alone`, paired by test rows and by seeds, with its 95 % interval. Finished fits are
read from `--out`. One thread; seconds are of CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from corpora import Corpus, corpora
from networks import fitted, learner_of

from foldstack.ensemble import paired_difference
from foldstack.learners import Learner, stored_mb
from foldstack.links import to_probabilities
from foldstack.progress import say, table
from foldstack.rows import Rows
from foldstack.stages.taught import labelled
from foldstack.techniques import PseudoLabels

FOLDS, SHARE, SURE = 5, 0.5, 0.9
WAYS = ("alone", "pseudo", "sure", "distilled", "both")
OWN: dict[str, dict] = {  # settings of ways beside those of the preset
    "mixed": {"pseudo_labels": {"teachers": "teacher", "texts": ["pool"], "ratio": 1}},
    "consistent": {
        "consistency": {"texts": ["pool"], "augment": [{"name": "tfidf_words", "share": 0.3}]}
    },
    "tempered": {"distil": {"teachers": "teacher", "share": SHARE, "temperature": 4}},
    "half": {"keep_every": 2},
    "matched": {"keep_every": 2, "match_hidden": 1},
    "joint": {"keep_every": 2, "joint": {}},
}
STARTS = {"again": "sure", "half": "alone", "matched": "alone"}  # from the model of which way
OF_GOLD = ("alone", "distilled", "again", "consistent", "tempered", "half", "matched", "joint")
TAUGHT_BY = {"self": "alone", "self2": "self", "noisy1": "alone", "noisy": "noisy1"}
NOISE = {"augment": ["delete_words", "swap_words"]}


class Bench:
    """The fits of one data set, which are read again from a folder."""

    def __init__(self, corpus: Corpus, rows: int, pool: str, teachers: list[str], out: Path):
        self.corpus, self.teachers, self.out = corpus, teachers, out / corpus.name
        self.gold = corpus.first(rows)
        later = corpus.train.take(np.arange(rows, len(corpus.train)))
        found = corpus.test if pool == "test" else later.take(np.arange(min(int(pool), len(later))))
        self.pool = replace(found, targets=None)
        self.out.mkdir(parents=True, exist_ok=True)
        self.size = f"{rows}-{len(self.pool)}{'-test' * (pool == 'test')}"
        self.key = f"{self.size}-{'+'.join(teachers)}"

    def predictions(self, student: str, way: str, seed: int) -> tuple[np.ndarray, dict]:
        """Return the (n, outputs) test probabilities of a student, and facts of its fit."""
        place = self._place(student, way, seed)
        if not place.exists():
            self._fit(student, way, seed)
        found = np.load(place)
        return found["p"], json.loads(str(found["facts"]))

    def _place(self, student: str, way: str, seed: int) -> Path:
        return self.out / f"{self.key}-{student}-{way}-{seed}.npz"

    def _fit(self, student: str, way: str, seed: int) -> Learner:
        """Fit a student and store its predictions; return it."""
        train = self.rows(student, way, seed)
        say(f"{self.corpus.name}: {student} {way}, seed {seed}, {len(train):,} rows")
        with tempfile.TemporaryDirectory() as folder:
            changes: dict = dict(NOISE) if way.startswith("noisy") else dict(OWN.get(way, {}))
            if way in STARTS:
                changes |= {"start_from": STARTS[way], "start": Path(folder)}
                self._fit(student, STARTS[way], seed).save(Path(folder))
            if way == "consistent":
                changes["unlabelled"] = self.pool
            learner = learner_of(student, self.corpus, seed, **changes)
            seconds = fitted(learner, train)
        begin = time.process_time()
        p = to_probabilities(learner.predict(self.corpus.test), learner.link)
        rate = len(p) / max(time.process_time() - begin, 1e-9)
        facts = {"seconds": seconds, "mb": stored_mb(learner), "rate": rate}
        if way in TAUGHT_BY.values():
            q = to_probabilities(learner.predict(self.pool), learner.link)
            np.save(self._pool_place(student, way, seed), q)
        np.savez(self._place(student, way, seed), p=p, facts=json.dumps(facts))
        return learner

    def rows(self, student: str, way: str, seed: int) -> Rows:
        """Return the rows that a student learns from."""
        gold = self.gold
        if way in ("distilled", "both"):
            taught = self.of_gold(seed)
            gold = replace(gold, targets=(1 - SHARE) * gold.targets + SHARE * taught)
        if way == "tempered":
            gold = replace(gold, taught=self.of_gold(seed))
        if way in OF_GOLD:
            return gold
        settings = PseudoLabels(teachers=["teacher"])
        if way == "sure":
            settings = PseudoLabels(teachers=["teacher"], labels="hard", confidence=SURE)
        earlier = TAUGHT_BY.get(way)
        p = self.of_pool(seed) if earlier is None else self._of_student(student, earlier, seed)
        one_hot = self.corpus.task.kind.is_one_hot
        return gold.concatenated(labelled(self.pool, {"teacher": p}, settings, one_hot))

    def _of_student(self, student: str, way: str, seed: int) -> np.ndarray:
        """Return an earlier student's probabilities of the pool."""
        place = self._pool_place(student, way, seed)
        if not place.exists():
            self._fit(student, way, seed)
        return np.load(place)

    def _pool_place(self, student: str, way: str, seed: int) -> Path:
        return self.out / f"{self.key}-{student}-{way}-{seed}-pool.npy"

    def of_pool(self, seed: int) -> np.ndarray:
        """Return the teachers' mean probabilities of the pool."""
        return self._mean("pool", seed, lambda name: self._taught(name, self.gold, self.pool, seed))

    def of_gold(self, seed: int) -> np.ndarray:
        """Return the probabilities of labelled rows by teachers that have not learned them."""
        fold = np.random.default_rng(seed).permutation(len(self.gold)) % FOLDS

        def out_of_fold(name: str) -> np.ndarray:
            found = np.zeros_like(self.gold.targets)
            for k in range(FOLDS):
                known, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
                taught = self._taught(name, self.gold.take(known), self.gold.take(held), seed)
                found[held] = taught
            return found

        return self._mean("gold", seed, out_of_fold)

    def _taught(self, name: str, known: Rows, rows: Rows, seed: int) -> np.ndarray:
        learner = learner_of(name, self.corpus, seed)
        fitted(learner, known)
        return to_probabilities(learner.predict(rows), learner.link)

    def _mean(self, what: str, seed: int, make: Callable[[str], np.ndarray]) -> np.ndarray:
        found = []
        for name in self.teachers:
            place = self.out / f"{self.size}-{name}-{what}-{seed}.npy"
            if not place.exists():
                say(f"{self.corpus.name}: {name} teaches {what}, seed {seed}")
                np.save(place, make(name))
            found.append(np.load(place))
        return np.mean(found, axis=0)


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
            seconds, mb, rate = (
                np.mean([f.get(key, np.nan) for _, f in made]) for key in ("seconds", "mb", "rate")
            )
            found.append(
                [
                    bench.corpus.name,
                    student,
                    way,
                    f"{score:.4f}",
                    gain,
                    f"{seconds:.0f}",
                    f"{mb:.1f}",
                    f"{rate:,.0f}",
                ]
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default="movie-reviews,bbc,tweeteval-irony,tweeteval-emotion")
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--pool", default="4000")
    parser.add_argument("--teacher", default="minilm")
    parser.add_argument("--students", default="tfidf,fasttext,textcnn,minilm")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/found/teachers"))
    args = parser.parse_args()
    body = []
    for name in args.sets.split(","):
        bench = Bench(corpora()[name](), args.rows, args.pool, args.teacher.split(","), args.out)
        body += lines(bench, args.students.split(","), args.ways.split(","), args.seeds)
    head = ["data set", "student", "way", "test score", "gain [95 %]", "CPU s", "MB", "rows/s"]
    print(table(head, body))


if __name__ == "__main__":
    main()
