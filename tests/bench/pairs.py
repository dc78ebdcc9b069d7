"""What a bi-encoder gains by silver pairs that a cross-encoder labels (Augmented SBERT).

    python tests/bench/pairs.py [--sets sick-relatedness,sick-entailment] [--shares 0.05,0.2,1]
        [--ways cosine,tfidf,linear,cross,bi,bm25] [--seeds 2] [--top 3]

A share of a data set's training pairs is gold. Each way is fitted on it, and all are scored on the same
test pairs:

- cosine: of the vectors of the untouched backbone (all-MiniLM-L6-v2);
- tfidf: of TF-IDF vectors of words, fitted on the gold sentences;
- linear: the linear model of preset `tfidf` on n-grams alone; pair_features and pair_edits: with
  its `pair_features` overlap and edits;
- cross: the cross-encoder `minilm`;
- bi: the bi-encoder `minilm-biencoder`;
- random, bm25, semantic, bm25_semantic: the same, and silver pairs that `pseudo_labels.recombine`
  makes in this way, at most three per gold pair, labelled by `cross` of the same seed;
- random+density and so on: and of these those that density sampling keeps;
- sick, of the domains of sts/pairs.tsv alone: the bi-encoder learns the gold pairs without their
  labels, as a cross-encoder predicts them that has learned sick (scenario c).

For classes a cosine is the only column of a logistic regression. `gain` is over `bi`, paired by test
rows and by seeds, with its 95 % interval. A line below shows how scores are distributed: of gold, of
silver and of what density sampling keeps. Finished fits are read from `--out`. One thread; seconds are
of CPU, those of a bi-encoder without its teacher's.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from corpora import Corpus, corpora, sts
from networks import fitted, learner_of
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from foldstack.config import SHIPPED, read_preset
from foldstack.ensemble import paired_difference
from foldstack.learners import Learner, LearnerContext
from foldstack.learners.frozen_backbone import BackboneVectors
from foldstack.links import to_probabilities
from foldstack.progress import say, table
from foldstack.rows import Rows
from foldstack.stages.taught import labelled
from foldstack.techniques import PseudoLabels, VectorsSettings
from foldstack.techniques.teaching import Recombination
from foldstack.text.recombination import drawn, near_gold, recombined

# Linear models: the value of `pair_features`.
LINEAR = {"linear": "none", "pair_features": "overlap", "pair_edits": "edits"}
FIXED = ("cosine", "tfidf", *LINEAR)  # nothing is drawn by the seed
SAMPLINGS = ("random", "bm25", "semantic", "bm25_semantic")
DENSITY = "+density"
SOURCE = "sick"
WAYS = (*FIXED, "cross", "bi", *(by + more for by in SAMPLINGS for more in ("", DENSITY)))
FEWEST = 40  # gold pairs
MOST = 3.0
BINS, BARS = 10, " ▁▂▃▄▅▆▇█"


class Bench:
    """The fits of one data set and share of gold, which are read again from a folder."""

    def __init__(self, corpus: Corpus, share: float, top: int, out: Path):
        self.corpus, self.top = corpus, top
        self.gold = corpus.first(round(share * len(corpus.train)))
        self.out = out / corpus.name / f"{len(self.gold)}-top{top}"
        self.out.mkdir(parents=True, exist_ok=True)

    def predictions(self, way: str, seed: int) -> tuple[np.ndarray, dict]:
        """Return the (n, outputs) test probabilities of a way, and facts of its fit."""
        place = self.out / f"{way}-{0 if way in FIXED else seed}.npz"
        if not place.exists():
            say(f"{self.corpus.name}: {way}, seed {seed}, {len(self.gold):,} gold pairs")
            of_cosines = way in FIXED and way not in LINEAR
            self._store(place, *(self._of_cosines(way) if of_cosines else self._fit(way, seed)))
        found = np.load(place)
        return found["p"], json.loads(str(found["facts"]))

    @staticmethod
    def _store(place: Path, p: np.ndarray, facts: dict) -> None:
        np.savez(place.with_suffix(".part.npz"), p=p, facts=json.dumps(facts))
        place.with_suffix(".part.npz").rename(place)

    def _fit(self, way: str, seed: int) -> tuple[np.ndarray, dict]:
        if way == "cross":
            learner, seconds = self._cross(self.corpus, self.gold, seed)
            self._label(learner, seed)
            rows = self.gold
        elif way in LINEAR:
            rows = self.gold
            learner = learner_of("tfidf", self.corpus, seed, pair_features=LINEAR[way])
            seconds = fitted(learner, rows)
        else:
            rows = self.rows(way, seed)
            loss = {"pair_loss": "softmax"} if self.corpus.task.kind.is_one_hot else {}
            learner = learner_of("minilm-biencoder", self.corpus, seed, **loss)
            seconds = fitted(learner, rows)
        p = to_probabilities(learner.predict(self.corpus.test), learner.link)
        return p, {"seconds": seconds, "silver": int((rows.origin != "gold").sum())}

    @staticmethod
    def _cross(corpus: Corpus, gold: Rows, seed: int) -> tuple[Learner, float]:
        learner = learner_of("minilm", corpus, seed)
        return learner, fitted(learner, gold)

    def rows(self, way: str, seed: int) -> Rows:
        """Return the rows that a bi-encoder learns from."""
        if way == "bi":
            return self.gold
        if way == SOURCE:
            return self._as_silver(self.gold, self._of_source(seed))
        silver = self._as_silver(*self.labelled(way.removesuffix(DENSITY), seed))
        if way.endswith(DENSITY):
            silver = silver.take(near_gold(self.gold.targets, silver.targets, seed))
        silver = silver.take(drawn(len(silver), MOST, len(self.gold), seed))
        return self.gold.concatenated(silver)

    def _as_silver(self, rows: Rows, p: np.ndarray) -> Rows:
        settings, one_hot = PseudoLabels(teachers=["cross"]), self.corpus.task.kind.is_one_hot
        return labelled(replace(rows, targets=None), {"cross": p}, settings, one_hot)

    def labelled(self, by: str, seed: int) -> tuple[Rows, np.ndarray]:
        """Return the pairs that are recombined in this way, and what the cross-encoder predicts."""
        place = self._labels(by, seed)
        if not place.exists():
            (self.out / f"cross-{seed}.npz").unlink(missing_ok=True)
            self.predictions("cross", seed)
        return self.candidates(by, seed), np.load(place)

    def _labels(self, by: str, seed: int) -> Path:
        return self.out / f"labels-{by}-{seed}.npy"

    def _label(self, learner: Learner, seed: int) -> None:
        """Store the cross-encoder's labels of all pairs that are recombined."""
        for by in SAMPLINGS:
            rows = self.candidates(by, seed)
            np.save(self._labels(by, seed), to_probabilities(learner.predict(rows), learner.link))

    def candidates(self, by: str, seed: int) -> Rows:
        settings = Recombination(by=by, top=self.top)
        pairs = recombined(self.gold.texts, (), settings, seed, self.vectors)
        n = len(pairs)
        ids = np.array([f"recombined:{i + 1}" for i in range(n)], dtype=object)
        return Rows(ids, pairs, None, np.ones(n), np.arange(n), np.full(n, "new", dtype=object))

    def _of_source(self, seed: int) -> np.ndarray:
        """Return the values of the gold pairs by a cross-encoder that has learned sick."""
        place = self.out / f"labels-{SOURCE}-{seed}.npy"
        if not place.exists():
            source = corpora()["sick-relatedness"]()
            learner, _ = self._cross(source, source.train, seed)
            for name, read in sts().items():  # one fit for all domains
                bench = Bench(read(), 1.0, self.top, self.out.parents[1])
                made = to_probabilities(learner.predict(bench.gold), learner.link)
                np.save(bench.out / place.name, made)
                say(f"{name}: labelled by sick, seed {seed}")
        return np.load(place)

    @cached_property
    def vectors(self) -> Callable[[Sequence[str]], np.ndarray]:
        """A function to the untouched backbone's vectors."""
        preset = read_preset(SHIPPED / "minilm-biencoder.yaml", Path("."))
        named = {name: preset[name] for name in ("backbone", "sha256")}
        source = BackboneVectors(
            VectorsSettings(learner="vectors", **named), LearnerContext(self.corpus.task, 0, 1)
        )
        source.fit([], None)
        return source.vectors

    def _of_cosines(self, way: str) -> tuple[np.ndarray, dict]:
        begin, test = time.process_time(), self.corpus.test
        own, theirs = (self._cosines(way, rows) for rows in (self.gold, test))
        p = theirs[:, None]
        if self.corpus.task.kind.is_one_hot:
            model = LogisticRegression().fit(own[:, None], self.gold.targets.argmax(axis=1))
            p = np.zeros((len(test), self.gold.targets.shape[1]))
            p[:, model.classes_] = model.predict_proba(theirs[:, None])
        return p, {"seconds": time.process_time() - begin, "silver": 0}

    def _cosines(self, way: str, rows: Rows) -> np.ndarray:
        sides = list(zip(*rows.texts, strict=True))
        if way == "tfidf":
            model = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b")
            model.fit([text for pair in self.gold.texts for text in pair])
            u, v = (model.transform(side) for side in sides)
            return np.asarray(u.multiply(v).sum(axis=1)).ravel()
        u, v = (self.vectors(list(side)) for side in sides)
        return (u * v).sum(axis=1) / (np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1))


def lines(bench: Bench, ways: list[str], seeds: int) -> list[list[str]]:
    """Return a line of the table per way."""
    task, test, found = bench.corpus.task, bench.corpus.test, []
    metric = replace(task.metric, scorer=task.score_probabilities, reads=())
    made = {way: [bench.predictions(way, seed) for seed in range(seeds)] for way in ways}
    each = {way: [p for p, _ in of_way] for way, of_way in made.items()}
    for way, of_way in made.items():
        gain = ""
        if way != "bi" and "bi" in each:
            d = paired_difference(metric, test.targets, each[way], each["bi"], test.groups, 0)
            gain = f"{d.difference:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
        score = np.mean([metric.score(test.targets, p) for p in each[way]])
        silver, seconds = (np.mean([f[key] for _, f in of_way]) for key in ("silver", "seconds"))
        shown = [way, f"{score:.4f}", gain, f"{silver:,.0f}", f"{seconds:.0f}"]
        found.append([bench.corpus.name, f"{len(bench.gold):,}", *shown])
    return found


def histograms(bench: Bench, ways: list[str]) -> list[list[str]]:
    """Return a line per distribution of scores, of seed 0, in ten bins from low to high."""
    if not bench.corpus.task.kind.is_values:
        return []
    gold = bench.gold.targets[:, 0]
    scores = {"gold": gold}
    for way in ways:
        if way.removesuffix(DENSITY) in SAMPLINGS:
            scores[way] = bench.rows(way, 0).targets[len(gold) :, 0]
    found = []
    for name, values in scores.items():
        edges = np.linspace(gold.min(), gold.max(), BINS + 1)
        shares = np.histogram(np.clip(values, gold.min(), gold.max()), edges)[0] / len(values)
        bars = "".join(BARS[min(round(s * 2 * (len(BARS) - 1)), len(BARS) - 1)] for s in shares)
        mean = f"{values.mean():.2f}"
        found.append([bench.corpus.name, f"{len(gold):,}", name, f"{len(values):,}", mean, bars])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default="sick-relatedness,sick-entailment")
    parser.add_argument("--shares", default="0.05,0.2,1")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--top", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/found/pairs"))
    args = parser.parse_args()
    body, shown, readers = [], [], corpora() | sts()
    for name in args.sets.split(","):
        corpus = readers[name]()
        ways = args.ways.split(",")
        if not corpus.task.kind.is_values:
            ways = [way for way in ways if DENSITY not in way]
        for share in map(float, args.shares.split(",")):
            bench = Bench(corpus, share, args.top, args.out)
            if len(bench.gold) < FEWEST:
                say(f"{name}: a share of {share:g} is {len(bench.gold)} pairs, which are too few")
                continue
            own = [w for w in ways if w != SOURCE or (name in sts() and share == 1)]
            body += lines(bench, own, args.seeds)
            shown += histograms(bench, own)
    head = ["data set", "gold", "way", "test score", "gain [95 %]", "silver", "CPU s"]
    print(table(head, body))
    if shown:
        print(table(["data set", "gold", "scores of", "pairs", "mean", "low to high"], shown))


if __name__ == "__main__":
    main()
