"""Changes of a text: nlpaug's augmenters, and small ones of our own.

A change takes a text's words and a random generator and gives a text. nlpaug draws from Python's
generator of the process; here each of its augmenters draws from the one it is given, so that a text
depends on that alone and the process's generators stay as they are.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from random import Random
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

from foldstack.errors import InputError
from foldstack.techniques import Augmentation
from foldstack.text.augment.words import Words, is_unspaced, split_words

Change = Callable[[Words, Random], str]
SEPARATOR = "\n"  # in no word
PUNCTUATION, FULL_WIDTH = ".;?:!,", "。；？：！，"  # AEDA's, and the same of Chinese
FREQUENT = 50  # words that count as stop words, where they are taken from the training rows


def make_change(settings: Augmentation, texts: list[str]) -> Change:
    """The change that the settings name; texts: the run's own training rows', for those that learn.

    Raises InputError where what it needs is not at hand.
    """
    return settings.load()(settings, texts)


def _count(share: float, n: int) -> int:
    """How many of n are touched: the share, rounded up, as nlpaug has it."""
    return min(n, math.ceil(share * n))


# Through nlpaug


def _tokens(text: str) -> list[str]:
    return text.split(SEPARATOR)


# nlpaug's limit of 10 words a text, however long, is lifted.
_OF_WORDS = {
    "aug_min": None,
    "aug_max": None,
    "tokenizer": _tokens,
    "reverse_tokenizer": SEPARATOR.join,
}
_OF_CHARACTERS = {
    "aug_char_min": 1,
    "aug_char_max": None,
    "aug_word_min": None,
    "aug_word_max": None,
    "tokenizer": _tokens,
    "reverse_tokenizer": SEPARATOR.join,
}


def _act(augmenter: Any, tokens: list[str], rng: Random) -> list[str]:
    """What nlpaug makes of the tokens, drawing from `rng`."""
    augmenter.sample = rng.sample
    return _tokens(getattr(augmenter, augmenter.action)(SEPARATOR.join(tokens)))


def _word_by_word(augmenter: Any) -> Change:
    return lambda text, rng: text.replaced(_act(augmenter, text.words, rng))


def _shares(settings: Augmentation) -> dict[str, float]:
    return {"aug_word_p": settings.share, "aug_char_p": settings.characters}


def keyboard(settings: Augmentation, texts: list[str]) -> Change:
    """Neighbouring keys of the same kind: no capital, digit or sign for a small letter."""
    from nlpaug.augmenter.char import KeyboardAug

    augmenter = KeyboardAug(lang=settings.language, **_shares(settings), **_OF_CHARACTERS)
    augmenter.model.model = {
        key: alike
        for key, near in augmenter.model.model.items()
        if len(key) == 1 and (alike := [k for k in near if len(k) == 1 and _kind(k) == _kind(key)])
    }
    return _word_by_word(augmenter)


def _kind(character: str) -> str:
    return unicodedata.category(character)


def ocr(settings: Augmentation, texts: list[str]) -> Change:
    from nlpaug.augmenter.char import OcrAug

    return _word_by_word(OcrAug(**_shares(settings), **_OF_CHARACTERS))


def swap_characters(settings: Augmentation, texts: list[str]) -> Change:
    from nlpaug.augmenter.char import RandomCharAug

    return _word_by_word(RandomCharAug(action="swap", **_shares(settings), **_OF_CHARACTERS))


def spelling(settings: Augmentation, texts: list[str]) -> Change:
    """From right to wrong only: backwards, the dictionary would make `luck` of `look`."""
    from nlpaug.augmenter.word import SpellingAug
    from nlpaug.model.word_dict import Spelling

    augmenter = SpellingAug(aug_p=settings.share, **_OF_WORDS)
    known = Spelling(augmenter.dict_path, include_reverse=False)
    # nlpaug keeps them in the order of a set, which is another in each process.
    known.dict = {word: sorted(set(wrong) - {"", word}) for word, wrong in known.dict.items()}
    augmenter.model = known
    return _word_by_word(augmenter)


def swap_words(settings: Augmentation, texts: list[str]) -> Change:
    order = _order("swap", settings.share)
    return lambda text, rng: text.replaced([text.words[i] for i in order(len(text), rng)])


def delete_words(settings: Augmentation, texts: list[str]) -> Change:
    order = _order("delete", settings.share)
    return lambda text, rng: text.kept(order(len(text), rng))


def _order(action: str, share: float) -> Callable[[int, Random], list[int]]:
    """Which of n words stand where after nlpaug's action, by number, which leaves their case alone."""
    from nlpaug.augmenter.word import RandomWordAug

    augmenter = RandomWordAug(action=action, aug_p=share, **_OF_WORDS)
    return lambda n, rng: [int(i) for i in _act(augmenter, [str(i) for i in range(n)], rng)]


def synonyms(settings: Augmentation, texts: list[str]) -> Change:
    """Raises InputError where WordNet or the tagger is missing, which nlpaug would download."""
    try:
        import nltk
        from nltk.corpus import wordnet

        wordnet.synsets("word")
        nltk.pos_tag(["word"])
    except (ImportError, LookupError, OSError):
        raise InputError(
            "augment: synonyms needs nltk, WordNet and a tagger: run `pip install nltk` and `python -m "
            "nltk.downloader wordnet averaged_perceptron_tagger_eng`, or leave synonyms out"
        ) from None
    from nlpaug.augmenter.word import SynonymAug

    return _word_by_word(SynonymAug(aug_src="wordnet", aug_p=settings.share, **_OF_WORDS))


# Our own


def crop_words(settings: Augmentation, texts: list[str]) -> Change:
    """Without a run of words. nlpaug's fails on short texts, and wraps from the start to the end."""

    def change(text: Words, rng: Random) -> str:
        n = len(text)
        count = min(_count(settings.share, n), n - 1)
        start = rng.randrange(n - count + 1)
        return text.kept([i for i in range(n) if not start <= i < start + count])

    return change


def insert_punctuation(settings: Augmentation, texts: list[str]) -> Change:
    """AEDA: from one mark to as many as the share of the words, before words drawn at random."""

    def change(text: Words, rng: Random) -> str:
        count = rng.randint(1, _count(settings.share, len(text)))
        at = rng.sample(range(len(text)), count)
        marks = (FULL_WIDTH if is_unspaced(text.words[i]) else PUNCTUATION for i in at)
        return text.inserted({i: rng.choice(m) for i, m in zip(at, marks, strict=True)})

    return change


def insert_stop_words(settings: Augmentation, texts: list[str]) -> Change:
    """Raises InputError where they are to be English, and the texts have none."""
    if settings.words == "english":
        words = sorted(ENGLISH_STOP_WORDS)
        if not any(w.lower() in ENGLISH_STOP_WORDS for t in texts for w in split_words(t).words):
            raise InputError(
                "augment: insert_stop_words inserts English words, but the training texts have none of "
                "them: set `words: frequent`, which takes the texts' own most frequent ones"
            )
    else:
        counts, vocabulary = _word_counts(texts)
        documents = np.bincount(counts.indices, minlength=len(vocabulary))
        words = [vocabulary[i] for i in np.argsort(-documents, kind="stable")[:FREQUENT]]

    def change(text: Words, rng: Random) -> str:
        at = rng.sample(range(len(text)), _count(settings.share, len(text)))
        return text.inserted({i: rng.choice(words) for i in at})

    return change


def tfidf_words(settings: Augmentation, texts: list[str]) -> Change:
    """Words that say little, for others that say little (Xie et al. 2020, UDA, appendix A.2).

    A word goes with a chance that falls with its TF-IDF in its text, and what comes is drawn with
    one that falls with the word's TF-IDF summed over the training texts. nlpaug's keeps the first
    model that a process fits, counts repetitions as documents, and draws by going through the whole
    vocabulary.
    """
    counts, vocabulary = _word_counts(texts)
    idf = np.log(len(texts) / np.bincount(counts.indices, minlength=len(vocabulary)).clip(min=1))
    scores = (counts.T @ (1 / np.asarray(counts.sum(axis=1)).ravel().clip(min=1))) * idf
    idf_of = dict(zip(vocabulary, idf.tolist(), strict=True))
    chances = list(accumulate(_inverted(scores).tolist()))

    def draw(rng: Random) -> str:
        return vocabulary[min(bisect(chances, rng.random() * chances[-1]), len(vocabulary) - 1)]

    def change(text: Words, rng: Random) -> str:
        often = Counter(text.words)
        own = np.array([often[w] / len(text) * idf_of.get(w, 0.0) for w in text.words])
        # The greatest keys u^(1/w): a draw without replacement (Efraimidis and Spirakis 2006).
        keys = [math.log(1 - rng.random()) / max(w, 1e-12) for w in _inverted(own)]
        out = list(text.words)
        for i in sorted(range(len(out)), key=keys.__getitem__)[-_count(settings.share, len(out)) :]:
            out[i] = draw(rng)
        return text.replaced(out)

    return change


def _word_counts(texts: list[str]) -> tuple[csr_matrix, list[str]]:
    """(texts, words) counts, and the words in order."""
    vectorizer = CountVectorizer(analyzer=lambda text: split_words(text).words)
    return vectorizer.fit_transform(texts), vectorizer.get_feature_names_out().tolist()


def _inverted(scores: np.ndarray) -> np.ndarray:
    """How far each lies below the greatest; ones where all are alike."""
    below = scores.max() - scores
    return below if below.any() else np.ones(len(scores))
