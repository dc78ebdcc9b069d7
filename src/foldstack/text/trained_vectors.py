"""Word vectors trained on texts by gensim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

from foldstack.errors import InputError
from foldstack.techniques import WordVectorsSettings

WINDOW = {"words": 5, "characters": 10, "words and characters": 10}
BUCKETS = 200_000  # of hashed character n-grams; the library's two million take 2.4 GB at size 300


def train_vectors(
    texts: Sequence[Sequence[str]],
    words: Sequence[str],
    settings: WordVectorsSettings,
    *,
    size: int,
    unit: str,
    min_count: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Train word vectors on texts, in one thread, so that they are the same each time.

    Args:
        texts: each text's words.
        words: n words to return the vectors of. fasttext has one of any word, by its character n-grams.
        settings: of the training.
        size: of a vector.
        unit: what tokens are, a key of WINDOW.
        min_count: least number of times that a word occurs; rarer ones are left out of the texts.
        seed: of initial vectors and sampling.

    Returns:
        (n, size) float32, zero where there is none; (n,) whether there is one.

    Raises:
        InputError: gensim is not installed, or no word occurs often enough.
    """
    settings.check_package()
    if max(Counter(chain.from_iterable(texts)).values(), default=0) < min_count:
        raise InputError(
            f"vectors.train: none of the {unit} occurs {min_count} times in the texts that vectors are "
            "trained on: set a smaller words.min_count, or leave vectors out"
        )
    from gensim.models import FastText, Word2Vec  # here, since it is optional

    options = {
        "vector_size": size,
        "window": settings.window or WINDOW[unit],
        "epochs": settings.epochs,
        "min_count": min_count,
        "sg": int(settings.train != "cbow"),
        "seed": seed,
        "workers": 1,
    }
    if settings.train == "fasttext":
        ngrams = {"min_n": settings.min_n, "max_n": settings.max_n, "bucket": BUCKETS}
        found = FastText(texts, **options, **ngrams).wv
    else:
        found = Word2Vec(texts, **options).wv
    vectors, known = np.zeros((len(words), size), np.float32), np.zeros(len(words), bool)
    for i, word in enumerate(words):
        if word in found:
            vectors[i], known[i] = found[word], True
    return vectors, known
