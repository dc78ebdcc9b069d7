"""Every pair of many sentences: a bi-encoder's cosines beside a cross-encoder.

    python tests/bench/sentences.py [--sentences 10000] [--pairs 1000] [--rounds 3]

The bi-encoder reads each sentence once, then one matrix product compares all of them; that is measured
whole. The cross-encoder reads each pair: `--pairs` random ones are measured, and the time of all
n (n − 1) / 2 is extrapolated. Both are all-MiniLM-L6-v2 on one thread, in turns in one process; seconds
are those of the clock, and the median of the rounds is shown. The cross-encoder is fitted on few pairs,
which does not change its speed.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from corpora import corpora
from networks import fitted, learner_of
from pairs import Bench

from foldstack.text.cosine import nearest, unit

FITTED = 64  # pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    corpus = corpora()["sick-relatedness"]()
    reviews = corpora()["movie-reviews"]()
    every = [*corpus.train.texts, *corpus.test.texts, *reviews.train.texts, *reviews.test.texts]
    texts = list(dict.fromkeys(text for row in every for text in row))[: args.sentences]
    rng = np.random.default_rng(0)
    chosen = [tuple(texts[i] for i in rng.choice(len(texts), 2, False)) for _ in range(args.pairs)]
    rows = replace(corpus.train.take(np.arange(args.pairs)), texts=chosen)
    cross = learner_of("minilm", corpus, repeats=1)
    fitted(cross, corpus.first(FITTED))
    encode = Bench(corpus, 1.0, 3, Path("tests/bench/found/pairs")).vectors
    apart, together = [], []
    for _ in range(args.rounds):
        begin = time.perf_counter()
        vectors = unit(encode(texts))
        encoded = time.perf_counter()
        found = nearest(vectors, vectors, 2)  # itself and another
        apart.append((encoded - begin, time.perf_counter() - encoded))
        begin = time.perf_counter()
        cross.predict(rows)
        together.append((time.perf_counter() - begin) / len(rows))
    pairs = len(texts) * (len(texts) - 1) // 2
    encoding, comparing = np.median(apart, axis=0)
    hours = np.median(together) * pairs / 3600
    print(
        f"{len(texts):,} sentences, {pairs:,} pairs; the nearest two: {found.cosines[:, 1].max():.3f}"
    )
    print(f"bi-encoder: {encoding:.1f} s to encode, {comparing:.1f} s to find the nearest of each")
    print(
        f"cross-encoder: {1 / np.median(together):,.0f} pairs a second; all take {hours:,.0f} hours"
    )


if __name__ == "__main__":
    main()
